# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The set of filesystems that a list of paths stands for."""

from __future__ import annotations

import os
import posixpath
from typing import Any, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    Mount,
    MountTable,
    Place,
    check_absolute,
    locate,
    read_only,
)
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    UNKNOWN,
    Reader,
    SuperblockError,
)

# Types whose super_operations have freeze_fs or freeze_super in mainline Linux; used only
# where the kernel itself cannot be asked.
_FREEZABLE = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "gfs2", "jfs", "nilfs2", "xfs"}


class Filesystem:
    """One superblock, open, and the first path that named it."""

    def __init__(self, place: Place) -> None:
        self.path = place.path
        self.fd = place.fd
        self.directory = place.directory
        self.mount = place.mount
        self.before = self.state = UNKNOWN
        self.evidence = "none"
        self.method = "freeze"
        self.level = 0
        self.extra: dict[str, Any] = {}

    @property
    def device(self) -> str:
        """``MAJ:MIN`` of the superblock."""
        return self.mount.device

    def __str__(self) -> str:
        """As messages name it."""
        mount = self.mount
        name = shown(mount.mountpoint)[1:-1] if mount.mountpoint else mount.source
        return "%s (%s on %s)" % (name, mount.fstype, mount.source)

    def remount(self) -> None:
        """Have it made read-only, or read-write again, in place of a freeze or thaw.

        For that its root has to be open, whatever the path names. ``QuiesceError``: it cannot.
        """
        self.method = "remount_ro"
        if not self.mount.mountpoint:
            # Reached by its device: there its root is open.
            return
        try:
            fd = os.open(self.mount.mountpoint, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise QuiesceError("%s cannot be opened: %s" % (self, error.strerror)) from error
        if os.fstat(fd).st_dev != os.fstat(self.fd).st_dev:
            os.close(fd)
            raise QuiesceError("something else is mounted over %s" % self)
        os.close(self.fd)
        self.fd = fd

    def facts(self) -> dict[str, Any]:
        """What a module returns of it."""
        return {
            "path": self.path,
            "mountpoint": self.mount.mountpoint,
            "source": self.mount.source,
            "fstype": self.mount.fstype,
            "device": self.device,
            "before": self.before,
            "state": self.state,
            **self.extra,
        }


def resolve(paths: Sequence[str]) -> list[Filesystem]:
    """The filesystems that contain these paths, each once, in the order of the paths."""
    check_absolute(paths)
    found: dict[str, Filesystem] = {}
    for path in paths:
        add(found, locate(path))
    return list(found.values())


def add(found: dict[str, Filesystem], place: Place) -> None:
    """Add what a path named, unless its filesystem is there already."""
    if place.mount.device in found:
        os.close(place.fd)
    else:
        found[place.mount.device] = Filesystem(place)


def refuse_root_by_accident(filesystems: Sequence[Filesystem], paths: Sequence[str]) -> None:
    """Only ``/`` itself may stand for the root filesystem."""
    place = locate("/")
    os.close(place.fd)
    if any(posixpath.normpath(path).strip("/") == "" for path in paths):
        return
    for filesystem in filesystems:
        if filesystem.device == place.mount.device:
            raise QuiesceError(
                "path %s is on the root filesystem, which nobody asked to freeze: what should be "
                "mounted there is not. Mount it, or name / itself if you mean it"
                % shown(filesystem.path)
            )


def refuse_covered(filesystems: Sequence[Filesystem], table: MountTable) -> None:
    """A mountpoint that hides another filesystem names two, and so none."""
    for filesystem in filesystems:
        hidden = table.covered_by(filesystem.mount)
        if hidden:
            raise QuiesceError(
                "%s is mounted over %s on %s at the same mountpoint, so it is not certain which "
                "of them is meant; unmount one, or name a path where only one of them is mounted"
                % (filesystem, hidden[0].fstype, hidden[0].source)
            )


def unsupported(mount: Mount, fd: int, reader: Reader | None) -> str | None:
    """Why a filesystem cannot be frozen, as the end of a sentence; None where it can."""
    if read_only(mount):
        return "is read-only, so that there is nothing to freeze"
    freezable = mount.fstype in _FREEZABLE
    if reader is not None:
        try:
            freezable = reader.freezable(fd)
        except SuperblockError:
            pass
    if not freezable:
        return "cannot be frozen: its type %s does not support it" % mount.fstype
    return None


def difference(filesystems: Sequence[Filesystem]) -> dict[str, str]:
    """For ``--diff``: a line per filesystem."""

    def lines(states: Sequence[str]) -> str:
        return "".join("%s: %s\n" % (each, state) for each, state in zip(filesystems, states))

    return {
        "before": lines([each.before for each in filesystems]),
        "after": lines([each.state for each in filesystems]),
    }
