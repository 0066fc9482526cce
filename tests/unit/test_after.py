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
from ansible_collections.quiesce.storage.plugins.module_utils import _after, _ioctl, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import Mount, Place
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import SuperblockError

from tests.unit.records import put, record


class Reader:
    """Says of a filesystem what it has been given; None is that nothing can be known."""

    states: list[str | None]

    def state(self, _fd: int) -> str:
        state = self.states.pop(0)
        if state is None:
            raise SuperblockError("no BTF")
        return state


@pytest.mark.parametrize(
    ("answers", "states"),
    [
        # Thawed once, whatever it is then: that is of somebody else.
        ([True], []),
        ([False], ["thawed"]),
        ([False], [None]),
        ([False, False, True], ["freezing", "freezing"]),
        # The storage does not answer yet.
        ([errno.EIO, errno.EIO, True], []),
        ([errno.EIO, False], [None]),
    ],
)
def test_until_nothing_of_ours_is_left(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: Sequence[bool | int],
    states: Sequence[str | None],
) -> None:
    left = list(answers)

    def thaw(_fd: int) -> bool:
        answer = left.pop(0)
        if isinstance(answer, bool):
            return answer
        raise OSError(answer, os.strerror(answer))

    def find(_member: object) -> Place:
        return Place("/data", os.open(run_folder, os.O_RDONLY), True, Mount())

    monkeypatch.setattr(_ioctl, "thaw", thaw)
    monkeypatch.setattr(_after, "_find", find)
    monkeypatch.setattr(_after, "Reader", Reader)
    Reader.states = list(states)
    put(run_folder, "lost", record("lost", phase=_lease.HOLDING))
    _after.main("lost")
    assert (left, Reader.states) == ([], [])
    ended = (_lease.read("lost") or {})["ended"]
    assert (ended["held"], ended["thawed_by"]) == (False, "guard_lost")
