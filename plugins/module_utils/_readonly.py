# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounting a snapshot so that nothing at all is written to it.

A read-only mount alone is not enough: ext4 clears away unlinked files, and others replay a log. So
logs are left alone, and a read-only loop device stands before everything, block devices too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from ansible_collections.quiesce.storage.plugins.module_utils import _loop
from ansible_collections.quiesce.storage.plugins.module_utils._device import in_use
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MS_REMOUNT, _MS_BIND = 32, 4096
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_CLONE_NEWNS = 0x20000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_FLAGS = _MS_RDONLY | _MS_NOSUID | _MS_NODEV

# The driver for each type, and the options that leave its log alone; of those of btrfs, one that
# the kernel knows (Linux 5.9 renamed it, and later ones forgot the old name). An ext4 may have been
# told to panic where something in it cannot be read; not for a copy of it.
_WAYS = {
    "ext2": ("ext4", ("noload,errors=continue",)),
    "ext3": ("ext4", ("noload,errors=continue",)),
    "ext4": ("ext4", ("noload,errors=continue",)),
    "xfs": ("xfs", ("norecovery,nouuid",)),
    "btrfs": ("btrfs", ("rescue=nologreplay", "nologreplay")),
}

_libc = ctypes.CDLL(None, use_errno=True)


class CannotMountError(QuiesceError):
    """The kernel refused. ``number`` is its errno; EEXIST: the original is in the way."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def own_namespace() -> None:
    """Give this process mounts of its own, which end with it and which nobody else sees.

    ``OSError``: it may not.
    """
    if _libc.unshare(_CLONE_NEWNS) != 0:
        _raise_errno()
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None)


def mount(path: str, fstype: str, target: str) -> str:
    """Mount the snapshot at ``path`` on the folder ``target``; the device that it is mounted from.

    That is a loop device which goes with the mount, or ``path`` itself where it is a folder.
    ``CannotMountError``: the kernel refused, or would have mounted the original instead.
    ``QuiesceError``: there is no loop device. ``OSError``: ``path`` cannot be opened.
    """
    if stat.S_ISDIR(os.stat(path).st_mode):
        _bind(path, target)
        return path
    loop = _loop.attach(path)
    try:
        _mount_device(path, loop.device, fstype, target)
        return loop.device
    finally:
        os.close(loop.fd)


def unmount(target: str, lazy: bool = False) -> None:
    """Unmount what is on ``target``.

    With ``lazy`` it goes from the tree of folders now, and altogether with its last user.
    ``OSError``: EBUSY where it is in use.
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if _libc.umount2(os.fsencode(target), flags) != 0:
        _raise_errno()


def _bind(path: str, target: str) -> None:
    try:
        _mount(path, target, None, _MS_BIND, None)
        try:
            _mount(None, target, None, _MS_REMOUNT | _MS_BIND | _FLAGS, None)
        except OSError:
            unmount(target, lazy=True)
            raise
    except OSError as error:
        raise CannotMountError(
            "%s cannot be mounted: %s" % (path, error.strerror), error.errno or 0
        ) from error


def _mount_device(path: str, device: str, fstype: str, target: str) -> None:
    driver, ways = _WAYS[fstype]
    for number, options in enumerate(ways, 1):
        try:
            _mount(device, target, driver, _FLAGS, options)
            break
        except OSError as error:
            if error.errno == errno.EINVAL and number < len(ways):
                continue
            raise CannotMountError(
                "The kernel does not mount it as %s (%s): %s"
                % (driver, options, os.strerror(error.errno or 0)),
                error.errno or 0,
            ) from error
    # A copy of a mounted btrfs has its UUID, and old kernels give the mounted one for it. What is
    # mounted from a device has claimed it.
    if not in_use(device):
        unmount(target, lazy=True)
        raise CannotMountError("The kernel mounts the original instead of it.", errno.EEXIST)


def _mount(
    source: str | None, target: str, fstype: str | None, flags: int, options: str | None
) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, fstype)]
    data = options.encode() if options else None
    if _libc.mount(*words, ctypes.c_ulong(flags), data) != 0:
        _raise_errno()


def _raise_errno() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
