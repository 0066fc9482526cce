# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A freeze at an agreed time on the wall's clock, for sets that span hosts."""

from __future__ import annotations

import time

from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

FLUSH, FREEZE, LATE, FORGOTTEN = "flush", "freeze", "late", "forgotten"

# The freezer is told that much before the time, and waits for it by itself: it is the last to have
# to be woken up.
_LEAD_SECONDS = 0.3
# The last flush is begun so early that one of twice the length of the last would be over.
_FLUSH_MARGIN_SECONDS = 0.5
_FLUSH_MOST_SECONDS = 10.0
_SAME_SECONDS = 0.0005
NEAR_SECONDS = 2.0
"""Who asks for the agreed time once more when it is that near waits for it."""


def same(one: float, other: float) -> bool:
    """Whether two times (seconds since 1970) are one to people; records hold microseconds."""
    return abs(one - other) < _SAME_SECONDS


class Appointment:
    """When to freeze, and what is to be done until then."""

    def __init__(self, at: float, flush: bool, patience: float) -> None:
        """What is known of it.

        :param at: seconds since 1970; 0 where a time is to be agreed on.
        :param flush: whether one more flush is wanted before.
        :param patience: seconds to wait for a time to be agreed on.
        """
        self.at = at
        self._end = now() + patience
        self._flush = flush
        self._began = 0.0
        self._busy = False
        self._took = 0.0

    def left(self) -> float:
        """Seconds until then; the wall's clock may be set meanwhile, so it is asked each time."""
        return self.at - time.time() if self.at else float("inf")

    def movable(self, at: float, most: float) -> bool:
        """Whether there is time to agree on this one, which is at most so many seconds ahead."""
        left = at - time.time()
        return 0 < left <= most and not (same(at, self.at) and left < NEAR_SECONDS)

    def move(self, at: float) -> bool:
        """Agree on a time; whether that is another than before."""
        changed = not same(at, self.at)
        self.at = at
        return changed

    def flushed(self, seconds: float | None = None) -> None:
        """A flush is over, which took so long, or since the last ``step`` that asked for it."""
        self._took = now() - self._began if seconds is None else seconds
        self._busy = False

    def step(self) -> str:
        """What to do now: FLUSH, FREEZE, LATE, FORGOTTEN, or nothing (empty)."""
        if not self.at:
            return FORGOTTEN if now() > self._end else ""
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
