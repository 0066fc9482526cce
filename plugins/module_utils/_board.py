# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The board: memory that the guard's processes share, and that outlives each of them."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

IDLE, STARTED, FROZEN, FAILED = 0, 1, 2, 3

# In place of an errno: the kernel froze, and we could not get a witness to watch it.
NO_WITNESS = -1


class Row(ctypes.Structure):
    """One filesystem of the set. Times are of ``_clock.now()``; 0 is "not yet"."""

    status: int
    errno: int
    released: int
    broken: float
    flush_seconds: float
    started: float
    calling: float
    done: float
    thawed: float
    task: int
    entering: int
    entered: float
    completed: int
    armed: int
    woke: float

    _fields_ = [
        ("status", ctypes.c_int64),
        # Why it could not be frozen.
        ("errno", ctypes.c_int64),
        # Nobody of ours has to thaw it (any more).
        ("released", ctypes.c_int64),
        # Somebody else thawed it while it was ours; when that was noticed.
        ("broken", ctypes.c_double),
        ("flush_seconds", ctypes.c_double),
        ("started", ctypes.c_double),
        # When the kernel was last asked to freeze it; the witness rests only after that.
        ("calling", ctypes.c_double),
        ("done", ctypes.c_double),
        ("thawed", ctypes.c_double),
        # The sleeping witness: its thread, calls begun and ended, and the one that must not end.
        ("task", ctypes.c_int64),
        ("entering", ctypes.c_int64),
        ("entered", ctypes.c_double),
        ("completed", ctypes.c_int64),
        ("armed", ctypes.c_int64),
        ("woke", ctypes.c_double),
    ]


class Header(ctypes.Structure):
    """What concerns the whole set."""

    frozen_at: float
    deadline: float
    start: float
    stop: int
    ended: int
    freezer: int

    _fields_ = [
        ("frozen_at", ctypes.c_double),
        ("deadline", ctypes.c_double),
        # Nothing is frozen before that.
        ("start", ctypes.c_double),
        # No further filesystem may be frozen.
        ("stop", ctypes.c_int64),
        # The record says how it ended; nobody else has to.
        ("ended", ctypes.c_int64),
        # The process that freezes.
        ("freezer", ctypes.c_int64),
    ]


class Board:
    """A header and a row for each filesystem, in anonymous shared memory."""

    def __init__(self, count: int) -> None:
        size = ctypes.sizeof(Header) + count * ctypes.sizeof(Row)
        memory = mmap.mmap(-1, size)
        self.header = Header.from_buffer(memory)
        self.rows = list((Row * count).from_buffer(memory, ctypes.sizeof(Header)))

    def pause(self, number: int) -> float | None:
        """Seconds that a writer was blocked: our own, where one slept on the filesystem.

        Without it, from the call of the freeze to the return of the thaw. None until the thaw.
        """
        row = self.rows[number]
        if row.armed:
            return row.woke - row.entered if row.woke else None
        over = row.broken or row.thawed
        return over - row.started if row.started and over else None

    def frozen_seconds(self) -> float:
        """Seconds from the freeze to the first thaw of any of the set, or to now."""
        over = [row.broken or row.thawed for row in self.rows if row.broken or row.thawed]
        since = self.header.frozen_at
        return max(0.0, (min(over) if over else now()) - since) if since else 0.0

    def refused(self) -> dict[str, Any] | None:
        """Which row could not be frozen, and why; None where there is none."""
        for number, row in enumerate(self.rows):
            if row.errno:
                reason = "witness" if row.errno == NO_WITNESS else "errno"
                return {"reason": reason, "row": number, "errno": row.errno}
        return None

    def overdue(self) -> bool:
        """Whether there is a deadline, and it has come."""
        return 0 < self.header.deadline <= now()

    def stuck(self) -> int | None:
        """Number of the first row that is being frozen."""
        return next((n for n, row in enumerate(self.rows) if row.status == STARTED), None)

    def thawable(self, freezer_gone: bool) -> list[int]:
        """Numbers of the rows that are frozen by us, or may be, if the freezer is no more."""
        return [n for n in self.held() if freezer_gone or self.rows[n].status == FROZEN]

    def held(self) -> list[int]:
        """Numbers of the rows that are, or may yet become, frozen by us."""
        return [
            number
            for number, row in enumerate(self.rows)
            if row.status in (STARTED, FROZEN) and not row.released
        ]
