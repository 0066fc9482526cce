# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof: whether a filesystem has been frozen without a break since we froze it.

Where a child may sleep, it does, in a call that a thaw ends, however short. Where
``kernel.hung_task_panic`` forbids that, the superblock's state and the writes that
its devices have counted are looked at a thousand times a second: a frozen
filesystem writes nothing.
"""

from __future__ import annotations

import os
from typing import Sequence

from ansible_collections.quiesce.storage.plugins.module_utils._board import FROZEN, Board, Row
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member, asleep
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    FROZEN as STATE_FROZEN,
)
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    Reader,
    SuperblockError,
)

# Between two looks where nothing sleeps on the filesystem: a refreeze takes longer.
POLL_SECONDS = 0.001
# A witness needs this long at most to say that it woke.
_WAKE_SECONDS = 0.2

_SECTORS_WRITTEN = 6


class Proof:
    """Watches the rows of a board."""

    def __init__(
        self, board: Board, members: Sequence[Member], devices: Sequence[Sequence[str]], sleep: bool
    ) -> None:
        """``devices``: for each member the ``MAJ:MIN`` of its block devices."""
        self._board = board
        self._members = members
        self._devices = devices
        self._written: list[int | None] = [None] * len(members)
        self._reader: Reader | None = None
        self.possible = True
        self.polling = any(not sleep or member.remount for member in members)
        if not sleep:
            try:
                self._reader = Reader()
            except SuperblockError:
                self.possible = False

    def begin(self) -> None:
        """All rows are frozen now: remember what their devices have written so far."""
        self._written = [_sectors_written(devices) for devices in self._devices]

    def look(self) -> list[int]:
        """Mark rows that somebody else thawed as broken, and so no longer ours; their numbers."""
        found = []
        for number, (row, member) in enumerate(zip(self._board.rows, self._members)):
            if row.status == FROZEN and not row.released and not self._whole(number, row, member):
                row.broken = row.woke or now()
                row.released = 1
                found.append(number)
        return found

    def settle(self, numbers: Sequence[int], thawed_at: float) -> None:
        """After our own thaw, begun at ``thawed_at``: had a witness been awake before it?"""
        end = now() + _WAKE_SECONDS
        for number in numbers:
            row = self._board.rows[number]
            if self._members[number].witness and row.released:
                while not row.woke and now() < end:
                    os.sched_yield()
                if row.woke and row.woke < thawed_at:
                    row.broken = row.woke

    def held(self) -> bool:
        """Whether every row was frozen by us and none was broken."""
        rows = self._board.rows
        return self.possible and all(row.status == FROZEN and not row.broken for row in rows)

    def _whole(self, number: int, row: Row, member: Member) -> bool:
        """Nothing says that it was thawed. What cannot be seen does not: it is ours to thaw."""
        if member.remount:
            try:
                return bool(os.fstatvfs(member.fd).f_flag & os.ST_RDONLY)
            except OSError:
                self.possible = False
                return True
        if member.witness:
            # Where it is not seen, it says itself when it woke.
            return row.completed < row.armed and asleep(member.witness, row.task) is not False
        try:
            if self._reader is not None and self._reader.state(member.fd) != STATE_FROZEN:
                return False
        except SuperblockError:
            self.possible = False
        before, written = self._written[number], _sectors_written(self._devices[number])
        if written is None and before is not None:
            self.possible = False
        return written in (None, before)


def _sectors_written(devices: Sequence[str]) -> int | None:
    """The sum of the write counters (Documentation/block/stat.rst) of block devices."""
    total = 0
    try:
        for device in devices:
            with open("/sys/dev/block/%s/stat" % device, encoding="ascii") as stream:
                total += int(stream.read().split()[_SECTORS_WRITTEN])
    except (OSError, ValueError, IndexError):
        return None
    return total
