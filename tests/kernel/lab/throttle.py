# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slow storage: holding a block device to a rate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import LabError

_CONTROL = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")


@contextmanager
def throttled(device: str, write_rate: int) -> Iterator[None]:
    """Hold writes to ``device`` to ``write_rate`` bytes a second for the length of the block.

    It catches writeback too. Of nested loop devices choose the outermost, such as the base's.

    :raises LabError: this machine has no blkio controller of cgroup version 1.
    """
    if not _CONTROL.exists():
        raise LabError(f"{_CONTROL}: not there; throttling needs the blkio controller of cgroup v1")
    rdev = os.stat(device).st_rdev
    number = f"{os.major(rdev)}:{os.minor(rdev)}"
    _CONTROL.write_text(f"{number} {write_rate}")
    try:
        yield
    finally:
        _CONTROL.write_text(f"{number} 0")
