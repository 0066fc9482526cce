# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices that cannot be written to, and that go when nothing uses them any more."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import NamedTuple

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError

_CONTROL = "/dev/loop-control"
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_SET_FD, _LOOP_CLR_FD = 0x4C00, 0x4C01
_LOOP_SET_STATUS64, _LOOP_GET_STATUS64 = 0x4C04, 0x4C05
_LOOP_CONFIGURE = 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
# struct loop_info64: device, inode, rdevice, offset, size limit; number, encryption type and
# key size, flags; names and key; two more words. struct loop_config has it in its middle.
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG = struct.Struct("=II%ds8Q" % _INFO.size)
_NAME_BYTES = 63
_ATTEMPTS = 20


class Loop(NamedTuple):
    """A loop device, such as ``/dev/loop3``; ``fd`` is the caller's to close."""

    device: str
    fd: int


def attach(path: str) -> Loop:
    """Put a read-only loop device on a file or a block device.

    It is detached by the kernel as soon as its last user, ``fd`` among them, has gone.
    ``OSError``: ``path`` cannot be opened. ``QuiesceError``: there is no loop device to be had.
    """
    image = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _each in range(_ATTEMPTS):
            found = _attach(path, image)
            if found:
                return found
    except OSError as error:
        raise QuiesceError(
            "%s cannot be put on a loop device: %s; this needs %s and root"
            % (path, error.strerror, _CONTROL)
        ) from error
    finally:
        os.close(image)
    raise QuiesceError("%s cannot be put on a loop device: others are always faster" % path)


def _attach(path: str, image: int) -> Loop | None:
    """One attempt; None when somebody else was faster."""
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        device = "/dev/loop%d" % fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        _configure(fd, path, image)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EBUSY:
            return None
        raise
    return Loop(device, fd)


def _configure(fd: int, path: str, image: int) -> None:
    name = os.fsencode(path)[:_NAME_BYTES]
    flags = _READ_ONLY | _AUTOCLEAR
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
    try:
        fcntl.ioctl(fd, _LOOP_CONFIGURE, _CONFIG.pack(image, 0, info, *[0] * 8))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        # Linux below 5.8 does it in two steps.
        fcntl.ioctl(fd, _LOOP_SET_FD, image)
        try:
            fcntl.ioctl(fd, _LOOP_SET_STATUS64, info)
        except OSError:
            fcntl.ioctl(fd, _LOOP_CLR_FD)
            raise


def is_loop(device: str) -> bool:
    """Whether ``device`` is a loop device that something is attached to."""
    return os.path.exists("/sys/block/%s/loop" % os.path.basename(device))


def is_behind(device: str, path: str) -> bool:
    """Whether the loop device ``device`` is on the file or block device ``path``.

    A file that has been deleted meanwhile is known by the name that it had.
    """
    if not is_loop(device):
        return False
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            info = _INFO.unpack(fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_INFO.size)))
        finally:
            os.close(fd)
        with open("/sys/block/%s/loop/backing_file" % os.path.basename(device), "rb") as stream:
            name = os.fsdecode(stream.read().rstrip(b"\n"))
    except OSError:
        return False  # detached in the meantime
    try:
        status = os.stat(path)
    except OSError:
        return name == os.path.realpath(path) + " (deleted)"
    return (info[0], info[1]) == (status.st_dev, status.st_ino)
