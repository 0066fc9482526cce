# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public contract: options, and keys that are returned, are documented and stay.

What argument specs and documentation say of each other is ``ansible-test``'s to compare.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml
from ansible_collections.quiesce.storage.plugins.module_utils._filesystems import Filesystem
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import Mount, Place

_MODULES = "ansible_collections.quiesce.storage.plugins.modules."
_PATHS = {"type": "list", "elements": "path", "aliases": ["paths"]}
_FREEZING: dict[str, dict[str, Any]] = {
    "path": {**_PATHS, "required": True},
    "timeout": {"type": "int", "default": 60},
    "lease": {"type": "str", "default": ""},
    "freeze_timeout": {"type": "int", "default": 30},
    "flush": {"type": "bool", "default": True},
    "unsupported": {"type": "str", "default": "fail", "choices": ["fail", "skip", "remount_ro"]},
}
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "fsfreeze": {
        **_FREEZING,
        "state": {"type": "str", "required": True, "choices": ["frozen", "thawed"]},
    },
    "fsfreeze_info": {"path": _PATHS, "probe": {"type": "bool", "default": False}},
    "fsfreeze_run": {
        **_FREEZING,
        "commands": {"type": "list", "elements": "list", "required": True},
        "chdir": {"type": "path"},
        "environment": {"type": "dict"},
        "creates": {"type": "str"},
        "removes": {"type": "str"},
    },
}
_FILESYSTEM = ["path", "mountpoint", "source", "fstype", "device", "before", "state"]
_LEASE = ["name", "frozen_at", "deadline", "timeout", "guard_pid"]
RETURNED: dict[str, dict[str, list[str]]] = {
    "fsfreeze": {
        "filesystems": [*_FILESYSTEM, "flush_seconds", "freeze_seconds"],
        "lease": _LEASE,
        "held": [],
        "thawed_by": [],
        "frozen_seconds": [],
    },
    "fsfreeze_info": {
        "filesystems": [
            "path",
            "mountpoints",
            "source",
            "fstype",
            "device",
            "supported",
            "state",
            "evidence",
            "lease",
        ],
        "nesting": [],
    },
    "fsfreeze_run": {
        "held": [],
        "frozen_seconds": [],
        "filesystems": [],
        "lease": [],
        "results": ["argv", "rc", "stdout", "stderr", "start", "end", "delta"],
    },
}


class _Stop(Exception):
    """A module has said what its arguments are."""


def arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a module gives to AnsibleModule."""
    module, given = importlib.import_module(_MODULES + name), {}

    def stop(**options: Any) -> None:
        given.update(options)
        raise _Stop

    monkeypatch.setattr(module, "AnsibleModule", stop)
    with pytest.raises(_Stop):
        module.main()
    return given


def returned(name: str) -> dict[str, Any]:
    """A module's RETURN."""
    found: dict[str, Any] = yaml.safe_load(importlib.import_module(_MODULES + name).RETURN)
    return found


@pytest.mark.parametrize(
    ("module", "option"), [(m, option) for m, options in OPTIONS.items() for option in options]
)
def test_options(module: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = arguments(module, monkeypatch)["argument_spec"][option]
    promised = OPTIONS[module][option]
    assert {key: spec.get(key) for key in promised} == promised
    if not promised.get("required"):
        assert not spec.get("required")


@pytest.mark.parametrize("module", OPTIONS)
def test_nothing_else_has_to_be_given(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(module, monkeypatch)
    assert given["supports_check_mode"] is True
    required = {name for name, spec in given["argument_spec"].items() if spec.get("required")}
    assert required == {name for name, spec in OPTIONS[module].items() if spec.get("required")}
    for constraint in ("required_if", "required_together", "mutually_exclusive"):
        assert constraint not in given


@pytest.mark.parametrize(
    ("module", "key"), [(module, key) for module, keys in RETURNED.items() for key in keys]
)
def test_returned_keys_are_documented(module: str, key: str) -> None:
    documented = returned(module)[key]
    assert documented["description"]
    contains = documented.get("contains", {})
    for inner in RETURNED[module][key]:
        assert contains[inner]["description"]
        assert contains[inner]["type"]


def test_states_and_endings_are_documented() -> None:
    fsfreeze = returned("fsfreeze")
    for state in ("frozen", "thawed", "freezing", "unknown"):
        assert f"V({state})" in fsfreeze["filesystems"]["contains"]["before"]["description"]
        info = returned("fsfreeze_info")["filesystems"]["contains"]["state"]
        assert f"V({state})" in info["description"]
    for end in ("request", "deadline", "guard_lost", "other"):
        assert f"V({end})" in fsfreeze["thawed_by"]["description"]
        assert f"V({end})" in returned("fsfreeze_run")["thawed_by"]["description"]
    for evidence in ("kernel", "lease", "probe", "none"):
        text = returned("fsfreeze_info")["filesystems"]["contains"]["evidence"]["description"]
        assert f"V({evidence})" in text


def test_a_filesystem_returns_just_what_is_documented() -> None:
    mount = Mount(device="8:1", mountpoint="/srv", fstype="xfs", source="/dev/vdb")
    each = Filesystem(Place("/srv/db", -1, True, mount))
    assert list(each.facts()) == _FILESYSTEM
    each.extra = {"flush_seconds": 0.1, "freeze_seconds": 0.2, "pause": 0.3}
    contains = returned("fsfreeze")["filesystems"]["contains"]
    assert set(each.facts()) == set(contains)
    assert str(each) == "/srv (xfs on /dev/vdb)"


@pytest.mark.parametrize(
    ("mountpoint", "text"),
    [("/a\nb", r"/a\nb (xfs on /dev/vdb)"), ("", "/dev/vdb (xfs on /dev/vdb)")],
)
def test_a_filesystem_in_messages(mountpoint: str, text: str) -> None:
    mount = Mount(device="8:1", mountpoint=mountpoint, fstype="xfs", source="/dev/vdb")
    assert str(Filesystem(Place("/srv", -1, True, mount))) == text
