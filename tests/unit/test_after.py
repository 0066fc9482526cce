# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left to do where all of a guard is gone, on a kernel that answers as these tests say."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _after, _device, _ioctl, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import Mount, Place
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import SuperblockError

from tests.unit.guards import thaw_says
from tests.unit.records import MEMBER, put, record


class Reader:
    """Says of a filesystem what it has been given; None is that nothing can be known."""

    states: list[str | None]
    made = 0

    def __init__(self) -> None:
        # Each has programs open in the kernel, which nobody closes.
        type(self).made += 1

    def state(self, _fd: int) -> str:
        state = self.states.pop(0)
        if state is None:
            raise SuperblockError("no BTF")
        return state


@pytest.mark.parametrize(
    ("states", "answers"),
    [
        # Thawed once, whatever it is then: that is of somebody else.
        (["frozen"], [True]),
        (["frozen"], [False]),
        (["thawed"], [False]),
        ([None], [False]),
        (["freezing", "freezing", "frozen"], [True]),
        # The storage does not answer yet.
        (["frozen"] * 3, [errno.EIO, errno.EIO, True]),
        ([None, None], [errno.EIO, False]),
    ],
)
def test_until_nothing_of_ours_is_left(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    states: Sequence[str | None],
    answers: Sequence[bool | int],
) -> None:
    left = list(answers)

    def find(_member: object) -> Place:
        return Place("/data", os.open(run_folder, os.O_RDONLY), True, Mount())

    monkeypatch.setattr(_ioctl, "thaw", lambda _fd: thaw_says(left.pop(0)))
    monkeypatch.setattr(_device, "find", find)
    monkeypatch.setattr(_after, "Reader", Reader)
    Reader.states, Reader.made = list(states), 0
    # What had been thawed before is not even looked at.
    members = [MEMBER, {**MEMBER, "device": "8:2", "released": True}]
    put(run_folder, "lost", record("lost", phase=_lease.HOLDING, filesystems=members))
    _after.main("lost")
    assert (left, Reader.states, Reader.made) == ([], [], 1)
    ended = (_lease.read("lost") or {})["ended"]
    assert (ended["held"], ended["thawed_by"]) == (False, "guard_lost")
