# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which filesystem a path is on: mountinfo and open descriptors, never a name twice.

What a path names is settled by one ``open``; everything after that goes by the
descriptor, so that a mount that comes or goes meanwhile changes nothing.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import NamedTuple, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown

_OCTAL = re.compile(rb"\\([0-7]{3})")
_NO_DEVICE_MAJOR = "0"


class Mount(NamedTuple):
    """A line of mountinfo (proc_pid_mountinfo(5)), names unescaped."""

    number: int = 0
    parent: int = 0
    device: str = ""
    root: str = ""
    mountpoint: str = ""
    options: tuple[str, ...] = ()
    fstype: str = ""
    source: str = ""
    super_options: tuple[str, ...] = ()


class Place(NamedTuple):
    """What a path named at the moment it was opened; ``fd`` is the caller's to close."""

    path: str
    fd: int
    directory: bool
    mount: Mount


def parse(raw: bytes) -> list[Mount]:
    """The mounts in the text of a mountinfo; a line that is none is passed over."""
    mounts = []
    for line in raw.split(b"\n"):
        before, dash, after = line.partition(b" - ")
        first, last = before.split(b" "), after.split(b" ")
        if not dash or len(first) < 6 or len(last) < 3:
            continue
        if not (first[0].isdigit() and first[1].isdigit() and b":" in first[2]):
            continue
        mounts.append(
            Mount(
                int(first[0]),
                int(first[1]),
                first[2].decode("ascii", "replace"),
                _name(first[3]),
                _name(first[4]),
                _options(first[5]),
                _name(last[0]),
                _name(last[1]),
                _options(b" ".join(last[2:])),
            )
        )
    return mounts


def _options(escaped: bytes) -> tuple[str, ...]:
    # A comma within a value is escaped, and separates nothing.
    return tuple(_name(each) for each in escaped.split(b","))


def _name(escaped: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found.group(1), 8) & 255]), escaped))


class MountTable:
    """The mounts of this process's namespace at one moment."""

    def __init__(self, mounts: Sequence[Mount] | None = None) -> None:
        self.mounts = list(parse(_mountinfo()) if mounts is None else mounts)
        self._by_number = {mount.number: mount for mount in self.mounts}

    def of_device(self, device: str) -> list[Mount]:
        """The mounts of the superblock ``MAJ:MIN``."""
        return [mount for mount in self.mounts if mount.device == device]

    def covered_by(self, mount: Mount) -> list[Mount]:
        """Filesystems with a block device that this mount hides at the same mountpoint."""
        covered = []
        # A table that was read while mounts came and went may say that they carry each other.
        left = dict(self._by_number)
        below = left.pop(mount.parent, None)
        while below is not None and below.mountpoint == mount.mountpoint and below is not mount:
            if below.device != mount.device and has_block_device(below):
                covered.append(below)
            mount, below = below, left.pop(below.parent, None)
        return covered


def has_block_device(mount: Mount) -> bool:
    """Whether the filesystem is stored on a block device (btrfs has a device number of its own)."""
    if not mount.device.startswith(_NO_DEVICE_MAJOR + ":"):
        return True
    if not mount.source.startswith("/"):
        return False
    try:
        return stat.S_ISBLK(os.stat(mount.source).st_mode)
    except OSError:
        return False


def read_only(mount: Mount) -> bool:
    """Whether the superblock (not just this mount of it) is read-only."""
    # The kernel says it first; a value may contain ",ro" as well (btrfs: subvol=).
    return mount.super_options[:1] == ("ro",)


def check_absolute(paths: Sequence[str]) -> None:
    """``QuiesceError`` for an empty list, or a path that is not absolute."""
    if not paths:
        raise QuiesceError("path is empty; name at least one mountpoint, file or folder")
    for path in paths:
        if not path.startswith("/"):
            raise QuiesceError("path %s is not absolute; it must begin with /" % shown(path))
        if "\0" in path:
            raise QuiesceError("path %s contains a zero byte" % shown(path))


def locate(path: str) -> Place:
    """Open what ``path`` names (a symlink is followed) and say which mount it is on."""
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise QuiesceError(_cannot_open(path, error)) from error
    try:
        mode = os.fstat(opened).st_mode
        if stat.S_ISBLK(mode):
            raise QuiesceError(
                "path %s is a block device; name a path on the filesystem that it holds (only a "
                "thaw can be asked for by device)" % shown(path)
            )
        mount = _mount_of(opened)
        if mount is None:
            raise QuiesceError(
                "path %s was unmounted while it was looked at; try again" % shown(path)
            )
        return _reopen(path, opened, mode, mount)
    except OSError as error:
        raise QuiesceError(_cannot_open(path, error)) from error
    finally:
        os.close(opened)


def _reopen(path: str, opened: int, mode: int, mount: Mount) -> Place:
    """A descriptor that ioctls can use, on the very same mount."""
    name = "/proc/self/fd/%d" % opened
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if stat.S_ISDIR(mode):
        return Place(path, os.open(name, flags | os.O_DIRECTORY), True, mount)
    # The folder that a file is in is a better place to watch from; a file that is
    # mounted by itself has none on its filesystem.
    for folder in (os.path.dirname(os.path.realpath(path)), mount.mountpoint):
        try:
            fd = os.open(folder, flags | os.O_DIRECTORY)
        except OSError:
            continue
        if _mount_number(fd) == mount.number:
            return Place(path, fd, True, mount)
        os.close(fd)
    if not stat.S_ISREG(mode):
        raise QuiesceError(
            "path %s is neither a folder nor a file; name the mountpoint of its filesystem"
            % shown(path)
        )
    return Place(path, os.open(name, flags), False, mount)


def _mountinfo() -> bytes:
    with open("/proc/self/mountinfo", "rb") as stream:
        return stream.read()


def _mount_of(fd: int) -> Mount | None:
    """The mount that a descriptor is on, as the kernel says at this moment."""
    start = b"%d " % _mount_number(fd)
    for line in _mountinfo().split(b"\n"):
        if line.startswith(start):
            return parse(line)[0]
    return None


def _mount_number(fd: int) -> int:
    with open("/proc/self/fdinfo/%d" % fd, "rb") as stream:
        for line in stream:
            if line.startswith(b"mnt_id:"):
                return int(line.split()[1])
    raise OSError(errno.ENOSYS, "the kernel does not say which mount a descriptor is on")


def _cannot_open(path: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "path %s does not exist" % shown(path)
    return "path %s cannot be opened: %s" % (shown(path), error.strerror)
