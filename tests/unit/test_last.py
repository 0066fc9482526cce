# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last process of a guard, on a kernel that answers as these tests say."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _ioctl, _last, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._board import FROZEN, STARTED, Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member
from ansible_collections.quiesce.storage.plugins.module_utils._last import Last

from tests.unit.guards import thaw_says
from tests.unit.records import put, record

GUARD = 4711


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    """Give both ends of a pipe; a test that closes one takes it out."""
    ends = list(os.pipe())
    yield ends
    for end in ends:
        os.close(end)


def frozen(*statuses: int) -> tuple[Board, list[Member]]:
    """A board with a row for each status."""
    board = Board(len(statuses))
    for row, status in zip(board.rows, statuses, strict=True):
        row.status = status
    return board, [Member(number, True, False, 0) for number in range(len(statuses))]


def ended(folder: Path, guard: int) -> Any:
    """What a record of this guard says of its end once the last one has finished."""
    put(folder, "one", record("one", lease={"name": "one", "guard_pid": guard}))
    board, members = frozen(FROZEN)
    read, write = os.pipe()
    os.close(read)
    Last(board, members, write, "one", GUARD).finish()
    os.close(write)
    assert board.held() == []
    return (_lease.read("one") or {})["ended"]


def test_while_somebody_reads_it_is_not_the_last(pipe: list[int], run_folder: Path):
    board, members = frozen(FROZEN)
    last = Last(board, members, pipe[1], "one", GUARD)
    last.look()
    last.finish()
    assert (last.alone(), board.header.stop, board.held()) == (False, 0, [0])


def test_what_is_frozen_is_thawed_and_nothing_else(
    pipe: list[int], monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []

    def thaw(fd: int) -> bool:
        asked.append(fd)
        return True

    monkeypatch.setattr(_ioctl, "thaw", thaw)
    board, members = frozen(FROZEN, STARTED)
    last = Last(board, members, pipe[1], "one", GUARD)
    os.close(pipe.pop(0))
    last.look()
    assert (last.alone(), board.header.stop) == (True, 1)
    assert (asked, board.held()) == ([0], [1])


def test_it_says_how_the_lease_ended(run_folder: Path, monkeypatch: pytest.MonkeyPatch):
    answers: list[bool | int] = [errno.EIO, True]
    monkeypatch.setattr(_last, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(_ioctl, "thaw", lambda _fd: thaw_says(answers.pop(0)))
    said = ended(run_folder, GUARD)
    assert said
    assert (said["held"], said["thawed_by"], answers) == (False, "guard_lost", [])


def test_but_not_of_a_lease_that_has_its_name_by_now(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_ioctl, "thaw", lambda _fd: True)
    assert ended(run_folder, GUARD + 1) is None
