# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A freezer whose witness is always late, on a kernel that answers as these tests say."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _freezer, _ioctl
from ansible_collections.quiesce.storage.plugins.module_utils._board import FAILED, Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._last import Last

from tests.unit.guards import thaw_says


@pytest.fixture
def member() -> Iterator[Member]:
    """Give a filesystem whose witness, this process, is never seen asleep on it."""
    made = Member(fd=-1, directory=True, remount=False, level=0)
    made.witness = os.getpid()
    made.wake, made.start = os.pipe()
    yield made
    os.close(made.wake)
    os.close(made.start)


def freeze(
    member: Member, monkeypatch: pytest.MonkeyPatch, answer: bool | int
) -> tuple[Board, list[str]]:
    """Freeze where a thaw gives this answer, or this errno; the board, and what was asked."""
    asked: list[str] = []

    def thaw(_fd: int) -> bool:
        asked.append("thaw")
        return thaw_says(answer)

    monkeypatch.setattr(_ioctl, "freeze", lambda _fd: asked.append("freeze"))
    monkeypatch.setattr(_ioctl, "thaw", thaw)
    board = Board(1)
    _freezer._Team(board, [member], last(board, member)).freeze()
    return board, asked


def last(board: Board, member: Member) -> Last:
    """What the freezer would do if it were the last one, which it is not: this process reads."""
    return Last(board, [member], member.start, "one", os.getpid())


def test_what_cannot_be_watched_is_thawed(member: Member, monkeypatch: pytest.MonkeyPatch):
    board, asked = freeze(member, monkeypatch, True)
    assert asked == ["freeze", "thaw"] * 6
    assert board.rows[0].status == FAILED
    assert board.held() == []
    refused = board.refused()
    assert refused
    assert refused["reason"] == "witness"


def test_nor_is_it_frozen_once_somebody_else_has_thawed_it(
    member: Member, monkeypatch: pytest.MonkeyPatch
):
    board, asked = freeze(member, monkeypatch, False)
    assert asked == ["freeze", "thaw"] * 6
    assert board.held() == []


def test_what_cannot_be_thawed_again_stays_with_the_guard(
    member: Member, monkeypatch: pytest.MonkeyPatch
):
    board, asked = freeze(member, monkeypatch, errno.EIO)
    assert asked == ["freeze", "thaw"]
    assert board.held() == [0]
    refused = board.refused()
    assert refused
    assert (refused["reason"], refused["errno"]) == ("errno", errno.EIO)


def test_a_witness_is_not_waited_for_once_the_set_is_given_up(
    member: Member, monkeypatch: pytest.MonkeyPatch
):
    board = Board(1)
    row = board.rows[0]
    monkeypatch.setattr(_ioctl, "freeze", lambda _fd: None)
    # It has begun its call, and gets no processor to fall asleep in it.
    row.entering = 1
    giving_up = threading.Timer(0.2, lambda: setattr(board.header, "stop", 1))
    giving_up.start()
    began = now()
    _freezer._Team(board, [member], last(board, member)).freeze()
    giving_up.join()
    assert now() - began < 2
    assert (row.armed, board.held()) == (0, [0])
