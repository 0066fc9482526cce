# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes that a guard starts, and the pipes that tell of them."""

from __future__ import annotations

import os
from typing import Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _second
from ansible_collections.quiesce.storage.plugins.module_utils._board import Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import (
    Member,
    closed,
    end_if_stopped,
    fork,
    let_go,
    witnesses,
)
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._freezer import (
    FLUSH,
    FREEZE,
    freezer,
)
from ansible_collections.quiesce.storage.plugins.module_utils._last import Last

# For the others to end after a thaw. It takes them milliseconds, but for one that was stopped.
_END_SECONDS = 0.5


class Family:
    """Second process, witnesses and freezer; all of them started before anything is frozen.

    ``second`` and ``report`` are readable when the second process or the freezer has ended;
    ``report`` also when the freezer has something to say, ``bell`` when a witness woke (None
    where there are no witnesses).
    """

    def __init__(self, board: Board, members: Sequence[Member], lease: str, lock: int) -> None:
        """Start the second process; ``lock`` is the lock of the lease, which it holds as well."""
        self._board = board
        self._members = members
        self._lease = lease
        self._lock = lock
        self.bell: int | None = None
        self._over = False
        # The writing end is ours alone: the second process sees it close when we are no more.
        self._alive_read, self._alive_write = os.pipe()
        self.report, self._report_write = os.pipe()
        self.second = -1
        # Nothing is frozen yet that this could hold up.
        os.waitpid(self.start_second(), 0)

    def start_second(self) -> int:
        """Start the second process, or another in its place; ``OSError`` without room for it.

        :return: a child that ends at once.
        """
        read, write = os.pipe()
        if self.second >= 0:
            os.close(self.second)
        self.second = read
        try:
            return fork(
                lambda: _second.watch(
                    self._board,
                    self._members,
                    self._alive_read,
                    self.report,
                    self._lease,
                    self._lock,
                ),
                [member.fd for member in self._members]
                + [self._alive_read, self.report, self._lock, write],
                session=True,
            )
        finally:
            os.close(write)

    def start_children(self, sleep: bool, flush_timeout: float) -> None:
        """Start the witnesses, unless nothing may ``sleep`` here, and the freezer."""
        watched = [member for member in self._members if sleep and not member.remount]
        if watched:
            self._start_witnesses(watched)
        orders, self._orders = os.pipe()
        report = self._report_write
        last = Last(self._board, self._members, report, self._lease, os.getpid())
        self._board.header.freezer = fork(
            lambda: freezer(self._board, self._members, report, orders, flush_timeout, last),
            [member.fd for member in self._members]
            + [member.start for member in watched]
            + [report, orders],
        )
        for member in watched:
            os.close(member.start)
        os.close(report)
        os.close(orders)

    def _start_witnesses(self, watched: Sequence[Member]) -> None:
        self.bell, write = os.pipe()
        for member in watched:
            member.wake, member.start = os.pipe()
        pid = fork(
            lambda: witnesses(self._board, self._members, write),
            [each for member in watched for each in (member.fd, member.wake)] + [write],
        )
        os.close(write)
        for member in watched:
            member.witness = pid
            os.close(member.wake)

    def let_flush(self) -> None:
        """Have the freezer flush once more."""
        os.write(self._orders, FLUSH)

    def let_freeze(self) -> None:
        """The word that the freezer waits for after the flush."""
        os.write(self._orders, FREEZE)

    def stop_freezing(self) -> None:
        """No further filesystem is frozen; the one under way cannot be stopped."""
        if not self._board.header.stop:
            self._board.header.stop = 1
            os.close(self._orders)

    def end_stopped_freezer(self) -> None:
        """What a freezer has frozen is known when it says so, or ends, and a stopped one does
        neither; for when nothing is to be frozen any more."""
        end_if_stopped(self._board.header.freezer)

    def let_go(self) -> None:
        """Where nothing is frozen nor can be any more, have no process of ours keep it open.

        The end of the guard does that as well. This is for before somebody is told that all is
        thawed: who unmounts it then must not find it busy.
        """
        end = now() + _END_SECONDS
        if self._over or self._board.held() or not closed(self.report, _END_SECONDS):
            return
        if self._board.held():
            return
        self._over = True
        let_go(self._members)
        # Without it the second process ends.
        os.close(self._alive_write)
        for pipe in (self.second, self.bell):
            if pipe is not None:
                closed(pipe, max(0.0, end - now()))
