# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two clocks: one that never jumps for deadlines, and the wall's for people."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def now() -> float:
    """Seconds on CLOCK_BOOTTIME: setting the clock does not move it, and it runs in suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def iso(moment: float | None) -> str | None:
    """ISO 8601 UTC of a moment of ``now()``, as the wall's clock stands now; None stays None."""
    if not moment:
        return None
    wall = datetime.fromtimestamp(time.time() + moment - now(), timezone.utc)
    return wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
