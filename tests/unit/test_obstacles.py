# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would keep a thaw from getting through: by connection, become method and place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible_collections.quiesce.storage.plugins.plugin_utils._obstacles import (
    Obstacle,
    look,
    obstacles,
)


def connection(
    transport: str = "ssh",
    become: Any = None,
    tty: bool = False,
    options: Mapping[str, str | None] = MappingProxyType({}),
) -> Any:
    """A connection with these options; those of ssh that are not given are None."""
    ssh = {"ssh_args": None, "ssh_common_args": None, "ssh_extra_args": None, **options}
    return SimpleNamespace(
        transport=transport, become=become, has_tty=tty, get_option=lambda name: ssh[name]
    )


def kinds(made: Any) -> list[tuple[tuple[str, ...], bool]]:
    """Where obstacles are, and whether they are certain."""
    return [(each.folders, each.certain) for each in obstacles(made)]


TERMINAL = (("/var/log", "/var/lib"), True)
AGENT = (("/tmp",), False)
NEEDS_TTY = SimpleNamespace(require_tty=True)
NEEDS_NONE = SimpleNamespace(require_tty=False)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (connection(), []),
        (connection(become=NEEDS_NONE), []),
        # As `su` has it: nothing.
        (connection(become=SimpleNamespace()), []),
        (connection(become=NEEDS_TTY), [TERMINAL]),
        (connection("paramiko", become=NEEDS_TTY), [TERMINAL]),
        (connection(tty=True), [TERMINAL]),
        # It could give one, and does not.
        (connection("paramiko", tty=True), []),
        (connection(become=NEEDS_TTY, options={"ssh_args": "-A"}), [TERMINAL, AGENT]),
    ],
)
def test_a_terminal(made: Any, found: list[Any]) -> None:
    assert kinds(made) == found


@pytest.mark.parametrize("option", ["ssh_args", "ssh_common_args", "ssh_extra_args"])
@pytest.mark.parametrize(
    ("words", "forwards"),
    [
        ("-A", True),
        ("-C -A -o ControlMaster=auto", True),
        ("-o ForwardAgent=yes", True),
        ("-oForwardAgent=yes", True),
        ("-o 'ForwardAgent yes'", True),
        ("-o forwardagent=YES", True),
        ("-a", False),
        ("-o ForwardAgent=no", False),
        ("-o ControlPath=/run/x-A", False),
        ("-o 'ProxyCommand=ssh -A jump nc %h %p'", False),
        ("", False),
    ],
)
def test_a_forwarded_agent(option: str, words: str, forwards: bool) -> None:
    assert kinds(connection(options={option: words})) == ([AGENT] if forwards else [])
    assert kinds(connection("paramiko", options={option: words})) == []


@pytest.mark.parametrize("log", ["", "/srv/log/ansible.log"])
def test_the_controller_itself(monkeypatch: pytest.MonkeyPatch, log: str) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOG_PATH", log)
    monkeypatch.setattr(constants, "ANSIBLE_HOME", "~/home-of-ansible")
    monkeypatch.setenv("HOME", "/srv/me")
    found = kinds(connection("local"))
    assert found[:-1] == ([(("/srv/log",), True)] if log else [])
    folders, certain = found[-1]
    assert folders[0] == "/srv/me/home-of-ansible"
    assert not certain


CERTAIN = Obstacle(("/var/log", "/var/lib"), "a terminal", True)
POSSIBLE = Obstacle(("/tmp",), "an agent", False)


def on(devices: dict[str, int], asked: list[str]) -> Callable[[str], dict[str, Any]]:
    """A host on whose devices these are; another path is not there."""

    def execute(command: str) -> dict[str, Any]:
        asked.append(command)
        return {"stdout": "".join(f"{number} {name}\n" for name, number in devices.items())}

    return execute


PLACES = {"/srv": 7, "/srv/my data": 7, "/var/log": 1, "/var/lib": 1, "/tmp": 2}


@pytest.mark.parametrize("paths", [["/srv"], ["/srv/my data"], ["/not/there"], []])
def test_elsewhere_they_are_none(paths: list[str]) -> None:
    asked: list[str] = []
    assert look([CERTAIN, POSSIBLE], paths, on(PLACES, asked)) == []
    (command,) = asked
    assert command.startswith("stat -L -c '%d %n' -- ")
    assert command.endswith(" /var/log /var/lib /tmp")


@pytest.mark.parametrize("folder", ["/var/log", "/var/lib"])
def test_what_leaves_no_way_is_refused(folder: str) -> None:
    with pytest.raises(AnsibleActionFail, match=rf"^nothing was frozen: with {folder} frozen, no"):
        look([POSSIBLE, CERTAIN], ["/srv/my data"], on({**PLACES, folder: 7}, []))


def test_what_may_be_in_the_way_is_told() -> None:
    told = look([CERTAIN, POSSIBLE], ["/srv"], on({**PLACES, "/tmp": 7}, []))
    assert told == ["/tmp will be frozen: an agent"]


def test_what_is_not_there_is_in_nobodys_way() -> None:
    """Two that are not there are not on one device."""
    assert look([CERTAIN], ["/not/there"], on({"/srv": 7}, [])) == []
