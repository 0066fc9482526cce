# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thawing a set: in reverse, and no member waits for another that is stuck."""

from __future__ import annotations

import functools
from typing import Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _ioctl
from ansible_collections.quiesce.storage.plugins.module_utils._board import Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._worker import Worker

# A thaw takes well below a millisecond (measured); one that takes longer than this is
# stuck on its storage, and what it is stored on may be what it waits for.
_PATIENCE_SECONDS = 0.1
ANSWER_SECONDS = 1.0
"""Before somebody is told that all is thawed: by then a slow storage has let go, or a host that is
short of processor. A client waits for five seconds for all of it."""


class Thawer:
    """Thaws members of a set; safe to call again while an earlier call is stuck."""

    def __init__(self, board: Board, members: Sequence[Member]) -> None:
        """Start a thread for each; ``RuntimeError`` where the host has no room for them."""
        self._board = board
        self._members = members
        self.errors: dict[int, str] = {}
        self._workers = [
            Worker(functools.partial(self._thaw, number)) for number in range(len(members))
        ]

    def thaw(self, numbers: Sequence[int], last: float = 0.0) -> None:
        """Thaw these rows of the board, and mark those that are ``released``.

        :param last: how long to wait for all of them once they have been told, in seconds.
        """
        for level in sorted({self._members[number].level for number in numbers}, reverse=True):
            chosen = [
                self._workers[number]
                for number in numbers
                if self._members[number].level == level and not self._board.rows[number].released
            ]
            for worker in chosen:
                worker.ask()
            end = now() + _PATIENCE_SECONDS
            for worker in chosen:
                worker.wait(max(0.0, end - now()))
        end = now() + last
        for number in numbers:
            if not self._workers[number].wait(max(0.0, end - now())):
                self.errors.setdefault(number, "its storage has not answered")

    def close(self) -> None:
        """Have the threads end. A guard ends with all of them."""
        for worker in self._workers:
            worker.end()

    def _thaw(self, number: int) -> None:
        row, member = self._board.rows[number], self._members[number]
        if row.armed and row.woke:
            # Somebody else has thawed it. If it is frozen now, that is not our freeze.
            row.broken = row.broken or row.woke
            row.released = 1
            return
        try:
            if member.remount:
                _ioctl.set_read_only(member.fd, False)
            elif not _ioctl.thaw(member.fd):
                row.broken = row.broken or now()
        except OSError as error:
            self.errors[number] = _ioctl.meaning(error.errno or 0)
            return
        self.errors.pop(number, None)
        row.thawed = now()
        row.released = 1
