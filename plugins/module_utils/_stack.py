# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a filesystem is stored on, down to the disks: from sysfs, by device numbers."""

from __future__ import annotations

import os
import stat
from typing import Iterable

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    Mount,
    MountTable,
    has_block_device,
    locate,
)

SYS = "/sys"


class Stack:
    """The block devices and the filesystems below each mounted filesystem."""

    def __init__(self, table: MountTable, sys: str = SYS) -> None:
        self._table = table
        self._sys = sys
        self._below: dict[str, set[str]] = {}

    def devices(self, mount: Mount) -> list[str]:
        """``MAJ:MIN`` of the block devices that the filesystem writes to itself."""
        found = set()
        sources = [mount.source]
        for option in mount.super_options:
            name, _equals, value = option.partition("=")
            if name in ("logdev", "rtdev", "journal_path"):
                sources.append(value)
        for source in sources:
            device = _block_device(source)
            if device:
                found.add(device)
        if mount.fstype == "btrfs":
            found.update(self._btrfs_devices(found))
        if not found and not mount.device.startswith("0:"):
            found.add(mount.device)
        return sorted(found)

    def filesystems_below(self, device: str) -> set[str]:
        """The superblocks (``MAJ:MIN``) that ``device`` is stored on, all the way down."""
        if device not in self._below:
            # A stack cannot contain itself; this keeps a table that says so from looping.
            self._below[device] = set()
            below: set[str] = set()
            for mount in self._table.of_device(device)[:1]:
                for disk in self.devices(mount):
                    below |= self._holders(disk)
            for holder in list(below):
                below |= self.filesystems_below(holder)
            self._below[device] = below - {device}
        return self._below[device]

    def stored_on(self, devices: Iterable[str]) -> list[Mount]:
        """Mounted filesystems that are stored on one of these, and are none of them."""
        chosen = set(devices)
        found: dict[str, Mount] = {}
        for mount in self._table.mounts:
            new = mount.device not in chosen and mount.device not in found
            if new and has_block_device(mount) and self.filesystems_below(mount.device) & chosen:
                found[mount.device] = mount
        return list(found.values())

    def _holders(self, disk: str) -> set[str]:
        """The filesystems that hold the files behind the loop devices below ``disk``."""
        found, seen, todo = set(), set(), [disk]
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            folder = os.path.realpath("%s/dev/block/%s" % (self._sys, current))
            if os.path.exists(os.path.join(folder, "partition")):
                folder = os.path.dirname(folder)
            backing = _read(os.path.join(folder, "loop", "backing_file"))
            device = _block_device(backing)
            if device:
                todo.append(device)
            else:
                found |= self._backing_filesystem(backing)
            slaves = os.path.join(folder, "slaves")
            if os.path.isdir(slaves):
                for slave in os.listdir(slaves):
                    number = _read(os.path.join(slaves, slave, "dev"))
                    if number:
                        todo.append(number)
        return found

    def _backing_filesystem(self, backing: str) -> set[str]:
        if not backing:
            return set()
        try:
            place = locate(backing)
        except QuiesceError:
            # Deleted, or seen from another mount namespace: nothing here can freeze it.
            return set()
        os.close(place.fd)
        return {place.mount.device}

    def _btrfs_devices(self, known: set[str]) -> set[str]:
        """All devices of the btrfs that has one of the ``known`` ones."""
        base = os.path.join(self._sys, "fs", "btrfs")
        for name in os.listdir(base) if os.path.isdir(base) else []:
            folder = os.path.join(base, name, "devices")
            if os.path.isdir(folder):
                numbers = {_read(os.path.join(folder, disk, "dev")) for disk in os.listdir(folder)}
                if numbers & known:
                    return {number for number in numbers if number}
        return set()


def _block_device(path: str) -> str | None:
    if path.startswith("/"):
        try:
            found = os.stat(path)
        except OSError:
            return None
        if stat.S_ISBLK(found.st_mode):
            return "%d:%d" % (os.major(found.st_rdev), os.minor(found.st_rdev))
    return None


def _read(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return os.fsdecode(stream.read()).rstrip("\n")
    except OSError:
        return ""
