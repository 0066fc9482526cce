# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second process: thaws when the guard is lost, or is stopped past the deadline."""

from __future__ import annotations

import contextlib
import select
from typing import Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._board import Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import (
    Member,
    closed,
    end_if_stopped,
    let_go,
)
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._process import harden
from ansible_collections.quiesce.storage.plugins.module_utils._thaw import Thawer

# The guard goes first at the deadline; this long after it somebody else has to.
_GRACE_SECONDS = 0.2
_TICK_SECONDS = 0.25


def watch(
    board: Board,
    members: Sequence[Member],
    guard: int,
    freezer: int,
    lease: str,
    lock: int,
) -> None:
    """Wait for the guard's end, thaw what it left, and say so in the record of the lease.

    ``guard`` and ``freezer`` are the reading ends of pipes that the two hold open, ``lock`` is the
    descriptor of the lease's lock.
    """
    harden()
    thawer = Thawer(board, members)
    header = board.header
    while not closed(guard, _patience(board)):
        if header.deadline and now() > header.deadline + _GRACE_SECONDS and board.held():
            header.stop = 1
            _thaw(board, thawer, freezer)
            _conclude(board, lease, "deadline")
    header.stop = 1
    while True:
        gone = closed(freezer, 0.0)
        _thaw(board, thawer, freezer)
        _conclude(board, lease, "guard_lost")
        if gone and not board.held():
            if header.ended and not (_lease.read(lease) or {}).get("ended"):
                _lease.forget(lease, lock)
            let_go(members)
            return
        closed(freezer, 0.0 if gone else _TICK_SECONDS)
        if gone:
            select.select([], [], [], _TICK_SECONDS)


def _patience(board: Board) -> float:
    if not board.header.deadline:
        return _TICK_SECONDS
    left = board.header.deadline + _GRACE_SECONDS - now()
    return min(_TICK_SECONDS, max(left, 0.01))


def _thaw(board: Board, thawer: Thawer, freezer: int) -> None:
    """Thaw what is frozen, and what a freezer that is no more may have frozen."""
    gone = closed(freezer, 0.0)
    if not gone:
        end_if_stopped(board.header.freezer)
    thawer.thaw(board.thawable(gone))


def _conclude(board: Board, lease: str, thawed_by: str) -> None:
    if not board.header.ended:
        board.header.ended = 1
        with contextlib.suppress(OSError):
            frozen_seconds = board.frozen_seconds()
            _lease.conclude(lease, False, thawed_by, frozen_seconds, writer=_lease.SECOND)
