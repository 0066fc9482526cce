# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A freeze at an agreed time on the wall's clock, for sets that span hosts."""

from __future__ import annotations

import time

from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

FLUSH, FREEZE, LATE = "flush", "freeze", "late"

# The freezer is told that much before the time, and waits for it by itself: it is the last to have
# to be woken up.
_LEAD_SECONDS = 0.3
# The last flush is begun so early that one of twice the length of the last would be over.
_FLUSH_MARGIN_SECONDS = 0.5
_FLUSH_MOST_SECONDS = 10.0


class Appointment:
    """When to freeze, and what is to be done until then."""

    def __init__(self, at: float, flush: bool) -> None:
        """``at``: seconds since 1970; ``flush``: whether one more flush is wanted before."""
        self.at = at
        self._flush = flush
        self._began = 0.0
        self._busy = False
        self._took = 0.0

    def left(self) -> float:
        """Seconds until then; the wall's clock may be set meanwhile, so it is asked each time."""
        return self.at - time.time()

    def move(self, at: float) -> None:
        """Agree on another time."""
        self.at = at

    def flushed(self, seconds: float | None = None) -> None:
        """A flush is over, which took so long, or since the last ``step`` that asked for it."""
        self._took = now() - self._began if seconds is None else seconds
        self._busy = False

    def step(self) -> str:
        """What to do now: FLUSH, FREEZE, LATE, or nothing (empty)."""
        left = self.left()
        if left <= 0:
            return LATE
        if self._busy:
            return ""
        if left <= _LEAD_SECONDS:
            return FREEZE
        margin = min(2 * self._took, _FLUSH_MOST_SECONDS) + _FLUSH_MARGIN_SECONDS
        if self._flush and left <= _LEAD_SECONDS + margin:
            self._flush = False
            self._busy = True
            self._began = now()
            return FLUSH
        return ""

    def patience(self) -> float:
        """Seconds until the next look."""
        return max(0.0, min(0.1, self.left() - _LEAD_SECONDS))
