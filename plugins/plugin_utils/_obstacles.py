# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would keep a thaw from getting through, told before the freeze."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ansible import constants
from ansible.errors import AnsibleActionFail

# Where the end of a login is noted, by name of the file: wtmp, or wtmpdb and lastlog2.
_LOGIN_RECORDS = ("/var/log", "/var/lib")


class Obstacle(NamedTuple):
    """Something that writes to one of ``folders`` on the managed host.

    ``certain``: nothing gets through while one of them is frozen.
    """

    folders: tuple[str, ...]
    what: str
    certain: bool


def obstacles(connection: Any) -> Iterator[Obstacle]:
    """What is known to write on the managed host, on every connection or in the controller."""
    if _wants_terminal(connection):
        yield Obstacle(
            _LOGIN_RECORDS,
            "every command on this host gets a terminal (by the arguments of ssh, or for the "
            "become method), whose login records are there",
            True,
        )
    if _forwards_agent(connection):
        yield Obstacle(
            ("/tmp",),
            "every new connection forwards an ssh agent, whose socket is made there",
            False,
        )
    if connection.transport == "local":
        yield from _of_controller()


def _of_controller() -> Iterator[Obstacle]:
    """What Ansible writes where it runs, and is no matter of one task."""
    if constants.DEFAULT_LOG_PATH:
        folder = os.path.dirname(os.path.abspath(constants.DEFAULT_LOG_PATH))
        yield Obstacle((folder,), "Ansible writes its own log (log_path) there", True)
    home = os.path.expanduser(constants.ANSIBLE_HOME)
    yield Obstacle(
        (home, constants.DEFAULT_LOCAL_TMP, tempfile.gettempdir()),
        "other modules on this controller, and any new ansible command, write there and would "
        "wait (start Ansible with ANSIBLE_HOME=/dev/shm/ansible TMPDIR=/dev/shm "
        "PYTHONDONTWRITEBYTECODE=1)",
        False,
    )


def _wants_terminal(connection: Any) -> bool:
    if getattr(connection.become, "require_tty", False):
        return True
    # Other connections say yes when they could give one.
    return connection.transport == "ssh" and bool(connection.has_tty)


def _forwards_agent(connection: Any) -> bool:
    if connection.transport != "ssh":
        return False
    options = ("ssh_args", "ssh_common_args", "ssh_extra_args")
    words = shlex.split(" ".join(connection.get_option(option) or "" for option in options))
    flat = "".join(words).lower().replace(" ", "=")
    return "-A" in words or "forwardagent=yes" in flat


def look(
    found: Sequence[Obstacle],
    paths: Sequence[str],
    execute: Callable[[str], dict[str, Any]],
) -> list[str]:
    """Warnings about those that write to a filesystem of ``paths``; AnsibleActionFail for one
    that leaves no way.

    :param execute: runs a shell command on the managed host.
    """
    folders = [folder for each in found for folder in each.folders]
    names = shlex.join([*paths, *folders])
    devices = _devices(execute(f"stat -L -c '%d %n' -- {names}")["stdout"])
    frozen = {devices[path] for path in paths if path in devices}
    warnings = []
    for each in found:
        met = [folder for folder in each.folders if devices.get(folder) in frozen]
        if met and each.certain:
            raise AnsibleActionFail(
                f"nothing was frozen: with {met[0]} frozen, no thaw would get through before the "
                f"deadline: {each.what}"
            )
        if met:
            warnings.append(f"{met[0]} will be frozen: {each.what}")
    return warnings


def _devices(stdout: str) -> dict[str, str]:
    lines = (line.partition(" ") for line in stdout.splitlines())
    return {name: device for device, _space, name in lines if device.isdigit()}
