# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching a filesystem by its block device, when no path leads to it any more."""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from typing import Container, Iterator

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._children import fork
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    MountTable,
    Place,
    locate,
    parse,
)

# A line of mountinfo: at most two paths and the options.
_MOUNT_BYTES = 65536
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REC, _MS_PRIVATE = 1, 0x4000, 0x40000


def is_block_device(path: str) -> bool:
    """Whether ``path`` names a block device."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def in_use(path: str) -> bool:
    """Whether something in the kernel, a filesystem for one, has claimed the device."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise QuiesceError("%s cannot be opened: %s" % (path, error.strerror)) from error
    return False


def reach(path: str) -> Place:
    """The filesystem that lives on a device in use, and a descriptor of its root.

    The kernel gives a device that has a live superblock, mounted or not, to
    another mount without reading or writing a byte. That mount is made in a
    namespace of its own, so that nobody else sees it.
    """
    _lease.prepare_run()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        pid = fork(lambda: _mount_and_send(path, theirs), [theirs.fileno()])
        os.waitpid(pid, 0)
        theirs.close()
        data, ancillary, _flags, _address = ours.recvmsg(_MOUNT_BYTES, socket.CMSG_LEN(4))
    if not data or not ancillary:
        raise QuiesceError(
            "%s is in use, and not by a filesystem that can be reached: a volume manager, md, or "
            "swap may hold it; name the filesystem's own device or its mountpoint" % path
        )
    fd = struct.unpack("=i", ancillary[0][2][:4])[0]
    return Place(path, fd, True, parse(data)[0]._replace(mountpoint=""))


def find(member: dict[str, str]) -> Place | None:
    """The filesystem that a record has as ``member``; None where it is nowhere any more.

    ``QuiesceError``: it is in use, and cannot be reached.
    """
    for mount in MountTable().of_device(member["device"]):
        with contextlib.suppress(QuiesceError):
            place = locate(mount.mountpoint)
            if place.mount.device == member["device"]:
                return place
            os.close(place.fd)
    source = member["source"]
    return reach(source) if is_block_device(source) and in_use(source) else None


def lost(mounted: Container[str]) -> Iterator[Place]:
    """Filesystems that live on a block device and are none of those ``mounted`` (``MAJ:MIN``).

    Unmounted while frozen, or mounted where only others see it. The path of each is its device.
    """
    for name in sorted(os.listdir("/sys/class/block")):
        path = "/dev/" + name.replace("!", "/")
        try:
            with open("/sys/class/block/%s/dev" % name) as stream:
                number = stream.read().strip()
            with open("/sys/class/block/%s/size" % name) as stream:
                empty = stream.read().strip() == "0"
            if empty or number in mounted or not is_block_device(path) or not in_use(path):
                continue
            place = reach(path)
        except (OSError, QuiesceError):
            # Not a filesystem's, but a volume manager's, or gone in the meantime.
            continue
        if place.mount.device in mounted:
            os.close(place.fd)
        else:
            yield place


def _mount_and_send(path: str, connection: socket.socket) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        return
    libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    target = os.fsencode(_lease.RUN)
    for fstype in _types():
        # The flag must be that of the live superblock, else the kernel refuses.
        for flags in (0, _MS_RDONLY):
            if libc.mount(os.fsencode(path), target, fstype, flags, None) == 0:
                fd = os.open(_lease.RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
                connection.sendmsg([_last_mount()], rights)
                return


def _last_mount() -> bytes:
    with open("/proc/self/mountinfo", "rb") as stream:
        return stream.read().splitlines()[-1]


def _types() -> list[bytes]:
    with open("/proc/filesystems", "rb") as stream:
        lines = [line.split(b"\t") for line in stream.read().splitlines()]
    return [line[-1] for line in lines if line[0] != b"nodev"]
