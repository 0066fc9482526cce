# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FIFREEZE, FITHAW, syncfs and read-only reconfiguration, on file descriptors; tmpfs.

Those that ask something of a filesystem take an open descriptor of it (``O_PATH`` does
not do). All raise ``OSError`` with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

# linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int); the argument is ignored.
FIFREEZE = 0xC0045877
FITHAW = 0xC0045878

# The numbers of the mount system calls are the same on every architecture (Linux 5.2).
_SYS_FSCONFIG = 431
_SYS_FSPICK = 433
_AT_FDCWD, _EXCHANGE = -100, 2
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_FSPICK_CLOEXEC = 1
_FSPICK_EMPTY_PATH = 8
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_CMD_RECONFIGURE = 7

_libc = ctypes.CDLL(None, use_errno=True)

_MEANING = {
    errno.EBUSY: "it is frozen already",
    errno.EOPNOTSUPP: "its filesystem type cannot be frozen",
    errno.ENOTTY: "its filesystem type cannot be frozen",
    errno.EPERM: "this needs CAP_SYS_ADMIN (become: true)",
    errno.EROFS: "it is read-only",
    errno.EIO: "its storage returned an I/O error",
    errno.ENOSYS: "this kernel cannot do it (Linux 5.2 can)",
}
# What a thaw of one that is not frozen, or cannot be, is answered.
_NOT_FROZEN = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY)


def meaning(number: int) -> str:
    """What the errno of a call of this module says about a filesystem."""
    return _MEANING.get(number) or os.strerror(number)


def freeze(fd: int) -> None:
    """FIFREEZE: block writers, flush, and leave the filesystem clean on its storage.

    Cannot be cancelled: sleeps for as long as the storage takes.
    """
    fcntl.ioctl(fd, FIFREEZE, 0)


def thaw(fd: int) -> bool:
    """FITHAW; whether user space held the filesystem frozen, and the kernel itself did not."""
    try:
        fcntl.ioctl(fd, FITHAW, 0)
    except OSError as error:
        if error.errno not in _NOT_FROZEN:
            raise
        return False
    return True


def flush(fd: int) -> None:
    """syncfs(2): write the filesystem's dirty data without blocking writers."""
    if _libc.syncfs(fd) != 0:
        _raise_errno()


def set_read_only(fd: int, read_only: bool) -> None:
    """Make the superblock read-only or read-write; the flags of its mounts stay."""
    pick = _libc.syscall(_SYS_FSPICK, fd, b"", _FSPICK_CLOEXEC | _FSPICK_EMPTY_PATH)
    if pick < 0:
        _raise_errno()
    try:
        flag = b"ro" if read_only else b"rw"
        for command, key in ((_FSCONFIG_SET_FLAG, flag), (_FSCONFIG_CMD_RECONFIGURE, None)):
            if _libc.syscall(_SYS_FSCONFIG, pick, command, key, None, 0) < 0:
                _raise_errno()
    finally:
        os.close(pick)


def mount_tmpfs(path: str, options: str) -> None:
    """Mount a tmpfs on a folder."""
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if _libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags, options.encode()) != 0:
        _raise_errno()


def exchange(path: str, other: str) -> None:
    """Let two files swap their names at one instant; where that is unknown, replace ``other``."""
    renameat2 = getattr(_libc, "renameat2", None)
    names = (os.fsencode(path), os.fsencode(other))
    if not renameat2 or renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) != 0:
        os.rename(path, other)


def _raise_errno() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
