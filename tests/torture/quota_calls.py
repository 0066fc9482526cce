# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the kernel about the quotas of one filesystem, again and again.

    quota_calls.py CALL DEVICE FOLDER COUNT

COUNT is a file of 8 bytes in which the finished calls are counted; what they answer is of no
matter, for the kernel may know no quota for this filesystem, but they have to come back. Runs until
SIGTERM.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable

# include/uapi/linux/quota.h, dqblk_xfs.h
_SYNC, _QUOTAON, _QUOTAOFF = 0x800001, 0x800002, 0x800003
_GETFMT, _GETINFO, _GETQUOTA, _SETQUOTA = 0x800004, 0x800005, 0x800007, 0x800008
_XGETQSTAT = 0x5805
_QFMT_VFS_V1 = 4
_USER = 4711
_QIF_BLIMITS = 1
# include/uapi/linux/btrfs.h: BTRFS_IOC_QUOTA_CTL, QGROUP_LIMIT, QUOTA_RESCAN_STATUS
_BTRFS_CTL, _BTRFS_LIMIT, _BTRFS_STATUS = 0xC0109428, 0x8030942B, 0x8040942D
_BTRFS_ENABLE, _BTRFS_DISABLE = 1, 2
_TOP_SUBVOLUME = 5
_PAUSE = 0.01

_libc = ctypes.CDLL(None, use_errno=True)


def _quotactl(command: int, device: str, number: int, block: bytes = b"") -> None:
    buffer = ctypes.create_string_buffer(block, 256)
    # User quotas are number 0: nothing to add to the shifted command.
    _libc.quotactl(
        ctypes.c_int(ctypes.c_int32(command << 8).value), device.encode(), number, buffer
    )


def _limits() -> bytes:
    """A struct if_dqblk that sets the limits of blocks, to something new each time."""
    limit = 1000 + int(time.monotonic() * 100) % 1000
    fields = [limit, limit, 0, 0, 0, 0, 0, 0]
    return b"".join(each.to_bytes(8, "little") for each in fields) + _QIF_BLIMITS.to_bytes(
        4, "little"
    )


def _ioctl(fd: int, request: int, *words: int) -> None:
    argument = bytearray(b"".join(word.to_bytes(8, "little") for word in words))
    try:
        fcntl.ioctl(fd, request, argument)
    except OSError:
        pass


def _calls(device: str, fd: int) -> dict[str, Callable[[], None]]:
    def read() -> None:
        # Q_SYNC of this device only: of all it would wait for whatever else is here.
        for command in (_SYNC, _GETFMT, _GETINFO, _XGETQSTAT):
            _quotactl(command, device, 0)
        _ioctl(fd, _BTRFS_STATUS, *[0] * 8)

    return {
        "read": read,
        # Not among those that only ask: the kernel may have to make room for the answer.
        "get": lambda: _quotactl(_GETQUOTA, device, _USER),
        "set": lambda: _quotactl(_SETQUOTA, device, _USER, _limits()),
        "on": lambda: _quotactl(_QUOTAON, device, _QFMT_VFS_V1),
        "off": lambda: _quotactl(_QUOTAOFF, device, 0),
        "btrfs-on": lambda: _ioctl(fd, _BTRFS_CTL, _BTRFS_ENABLE, 0),
        "btrfs-off": lambda: _ioctl(fd, _BTRFS_CTL, _BTRFS_DISABLE, 0),
        "btrfs-limit": lambda: _ioctl(fd, _BTRFS_LIMIT, _TOP_SUBVOLUME, 1, 1 << 40, 0, 0, 0),
    }


def main() -> None:
    """Run until SIGTERM."""
    name, device, folder, count = sys.argv[1:]
    ended: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_ignored: ended.append(True))
    with open(count, "r+b") as file:
        cell = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
    call = _calls(device, os.open(folder, os.O_RDONLY))[name]
    while not ended:
        call()
        cell[0] += 1
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
