# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd runs when all of a guard is gone: thaw what its lease still holds."""

from __future__ import annotations

import os
import time

from ansible_collections.quiesce.storage.plugins.module_utils import _device, _ioctl, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    FREEZING,
    Reader,
    SuperblockError,
)

# The second process thaws within milliseconds, if it lives.
_SECOND_SECONDS = 0.3
_TICK_SECONDS = 0.05
# A FIFREEZE that was under way when all processes were killed goes on in the kernel.
_STRAGGLER_SECONDS = 600.0


def main(name: str) -> None:
    """Thaw what the record of lease ``name`` says was frozen, unless somebody has done so."""
    _lease.wait_for_end(name, _SECOND_SECONDS)
    record = _lease.read(name)
    # Where it lives, it is not the one that ended with this unit: its name may have been used again
    # at once, or PID 1 has started this unit long after whoever asked for it gave up.
    if record is None or _lease.is_over(record, False) or _lease.has_guard(record):
        return
    # What it had thawed before may be frozen by somebody else by now.
    left = {each["device"]: each for each in _lease.left(record)}
    reader = _reader()
    end = now() + _STRAGGLER_SECONDS
    while left and now() < end:
        for device in reversed(list(left)):
            if _thaw(left[device], reader):
                del left[device]
        if left:
            time.sleep(_TICK_SECONDS)
    _lease.conclude(name, False, "guard_lost", None)


def _reader() -> Reader | None:
    """One for all looks; None where this kernel does not let anybody look."""
    try:
        return Reader()
    except SuperblockError:
        return None


def _thaw(each: dict[str, str], reader: Reader | None) -> bool:
    """Whether nothing is left to do for this filesystem."""
    try:
        place = _device.find(each)
    except QuiesceError:
        return False
    if place is None:
        return True
    try:
        if each["method"] == "remount_ro":
            _ioctl.set_read_only(place.fd, False)
        elif reader and _is_freezing(reader, place.fd):
            return False
        else:
            # Once: a second time could take away a freeze of somebody else's.
            _ioctl.thaw(place.fd)
        return True
    except OSError:
        return False
    finally:
        os.close(place.fd)


def _is_freezing(reader: Reader, fd: int) -> bool:
    """Whether a freeze is under way, so that it is too early for a thaw."""
    try:
        return reader.state(fd) == FREEZING
    except SuperblockError:
        return False
