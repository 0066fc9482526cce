# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last one of a guard: its freezer, where guard and second process were both killed meanwhile.

Nobody would be told what it has frozen, so it thaws that itself.
"""

from __future__ import annotations

import contextlib
import time
from typing import Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._board import Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member, closed
from ansible_collections.quiesce.storage.plugins.module_utils._thaw import Thawer

_RETRY_SECONDS = 0.25


class Last:
    """Thaws what a freezer has frozen, once it is the last one.

    ``report`` is the writing end of the pipe that guard and second process read from, and
    ``guard`` the process of the guard.
    """

    def __init__(
        self, board: Board, members: Sequence[Member], report: int, lease: str, guard: int
    ) -> None:
        self._board = board
        self._members = members
        self._report = report
        self._lease = lease
        self._guard = guard
        self._thawer: Thawer | None = None

    def alone(self) -> bool:
        """Whether it is; nothing further is to be frozen then."""
        return closed(self._report, 0.0)

    def look(self) -> None:
        """Where it is the last one, thaw what is frozen."""
        if not self.alone():
            return
        self._board.header.stop = 1
        # Without room for threads: when it looks again.
        with contextlib.suppress(RuntimeError):
            self._thawer = self._thawer or Thawer(self._board, self._members)
            self._thawer.thaw(self._board.thawable(False))

    def finish(self) -> None:
        """The same, until nothing is left, and say so in the record."""
        if not self.alone():
            return
        self.look()
        while self._board.held():
            time.sleep(_RETRY_SECONDS)
            self.look()
        record = _lease.read(self._lease)
        # By now its name may be another one's.
        if record and record["lease"].get("guard_pid") == self._guard:
            with contextlib.suppress(OSError):
                _lease.conclude(
                    self._lease,
                    False,
                    "guard_lost",
                    self._board.frozen_seconds(),
                    writer=_lease.SECOND,
                )
