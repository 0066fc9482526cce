# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thawing a set: in reverse, and no member waits for another that is stuck."""

from __future__ import annotations

import errno
import threading
from typing import Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _ioctl
from ansible_collections.quiesce.storage.plugins.module_utils._board import Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

# A thaw takes well below a millisecond (measured); one that takes longer than this is
# stuck on its storage, and what it is stored on may be what it waits for.
_PATIENCE_SECONDS = 0.1


class Thawer:
    """Thaws members of a set; safe to call again while an earlier call is stuck."""

    def __init__(self, board: Board, members: Sequence[Member]) -> None:
        self._board = board
        self._members = members
        self._under_way: dict[int, threading.Thread] = {}
        self.errors: dict[int, str] = {}

    def thaw(self, numbers: Sequence[int]) -> None:
        """Thaw these rows of the board, and mark those that are ``released``."""
        for level in sorted({self._members[number].level for number in numbers}, reverse=True):
            threads = []
            for number in numbers:
                member = self._members[number]
                if member.level == level and not self._board.rows[number].released:
                    threads.append(self._start(number))
            end = now() + _PATIENCE_SECONDS
            for thread in threads:
                thread.join(max(0.0, end - now()))

    def _start(self, number: int) -> threading.Thread:
        thread = self._under_way.get(number)
        if thread is None or not thread.is_alive():
            thread = threading.Thread(target=self._thaw, args=(number,), daemon=True)
            self._under_way[number] = thread
            thread.start()
        return thread

    def _thaw(self, number: int) -> None:
        row, member = self._board.rows[number], self._members[number]
        try:
            if member.remount:
                _ioctl.set_read_only(member.fd, False)
            else:
                _ioctl.thaw(member.fd)
        except OSError as error:
            if error.errno != errno.EINVAL or member.remount:
                self.errors[number] = _ioctl.meaning(error.errno or 0)
                return
            row.broken = row.broken or now()
        self.errors.pop(number, None)
        row.thawed = now()
        row.released = 1
