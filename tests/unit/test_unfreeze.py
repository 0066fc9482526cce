# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thaw in the place of a guard that is dead, where the kernel cannot be reached for all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import (
    _device,
    _ioctl,
    _lease,
    _unfreeze,
)
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import Mount, Place
from ansible_collections.quiesce.storage.plugins.module_utils._unfreeze import Thaw

from tests.unit.records import MEMBER, put, record

# No path leads to these any more.
ONE = {**MEMBER, "path": "/gone/one", "mountpoint": "/gone/one"}
TWO = {**ONE, "path": "/gone/two", "mountpoint": "/gone/two", "device": "8:2", "source": "/dev/vdc"}
LEASE = {"name": "x", "guard_pid": 0, "deadline": None}


class Host:
    """Where the filesystems of a record are, and which were thawed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.unreachable: set[str] = set()
        self.thawed: list[str] = []
        self._open: dict[int, str] = {}

    def find(self, member: dict[str, str]) -> Place:
        device = member["device"]
        if device in self.unreachable:
            raise QuiesceError(f"{member['source']} is in use, and cannot be reached")
        fd = os.open(self._folder, os.O_RDONLY)
        self._open[fd] = device
        return Place(member["source"], fd, True, Mount(device=device, source=member["source"]))

    def thaw(self, fd: int) -> bool:
        self.thawed.append(self._open[fd])
        return True

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)


@pytest.fixture
def host(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Give a host on which a guard has died with both frozen."""
    made = Host(tmp_path)
    monkeypatch.setattr(_unfreeze, "require_privilege", lambda: None)
    monkeypatch.setattr(_device, "find", made.find)
    monkeypatch.setattr(_ioctl, "thaw", made.thaw)
    put(run_folder, "x", record(lease=LEASE, phase="held", filesystems=[dict(ONE), dict(TWO)]))
    yield made
    made.close()


def thawed(*paths: str) -> tuple[dict[str, Any], list[str]]:
    """The answer for these paths, and its warnings."""
    thaw = Thaw(paths, "x")
    answer = thaw.thaw()
    return answer, thaw.warnings


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {each["device"]: each["state"] for each in answer["filesystems"]}


def test_what_can_be_reached_is_thawed_and_told(host: Host) -> None:
    answer, warnings = thawed("/gone/one", "/gone/two")
    assert host.thawed == ["8:1", "8:2"]
    assert (answer["changed"], answer["held"]) == (True, False)
    assert answer["thawed_by"] == "guard_lost"
    assert len(warnings) == 1
    assert "was thawed in the place of its guard" in warnings[0]
    ended = _lease.read("x")
    assert ended is not None
    assert (ended["ended"]["thawed_by"], ended["ended"]["reported"]) == ("guard_lost", True)


def test_what_cannot_be_reached_is_not_said_to_be_thawed(host: Host) -> None:
    """The lease stays: somebody has to come back for it."""
    host.unreachable = {"8:1"}
    answer, warnings = thawed("/gone/one")
    assert host.thawed == []
    assert (answer["changed"], answer["held"]) == (False, False)
    assert answer["thawed_by"] == "guard_lost"
    assert answer["lease"]["name"] == "x"
    assert states(answer) == {"8:1": "frozen"}
    (warning,) = warnings
    assert warning == (
        "'/gone/one' is held by lease 'x' (its guard is dead, so that nobody thaws it by itself), "
        "and cannot be thawed in the place of its guard: /dev/vdb is in use, and cannot be reached"
    )
    left = _lease.read("x")
    assert left is not None
    assert not left["ended"]
    assert [each["device"] for each in _lease.left(left)] == ["8:1", "8:2"]


@pytest.mark.parametrize(("away", "reached"), [("8:1", "8:2"), ("8:2", "8:1")])
def test_one_that_cannot_be_reached_keeps_no_other(host: Host, away: str, reached: str) -> None:
    host.unreachable = {away}
    answer, warnings = thawed("/gone/one", "/gone/two")
    assert host.thawed == [reached]
    assert (answer["changed"], answer["held"]) == (True, False)
    assert states(answer)[away] == "frozen"
    assert len(warnings) == 1
    assert "cannot be thawed in the place of its guard" in warnings[0]
    left = _lease.read("x")
    assert left is not None
    assert not left["ended"]
    assert [each["device"] for each in _lease.left(left)] == [away]
    # It can be reached later. By then the other one may be frozen by somebody else.
    host.unreachable.clear()
    assert thawed("/gone/one", "/gone/two")[0]["changed"] is True
    assert host.thawed == [reached, away]
    ended = _lease.read("x")
    assert ended is not None
    assert ended["ended"]["thawed_by"] == "guard_lost"
