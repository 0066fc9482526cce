# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The room for the copies of a virtual machine's disks, on real filesystems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._qemu import Disk, make_empty

from tests.kernel.lab import Filesystem, Lab

MIB = 1 << 20


def disk(folder: Path, size: int) -> Disk:
    """A disk of ``size`` bytes whose copy is to be in a folder."""
    image = folder / "image"
    image.touch()
    return Disk("data", str(image), size, str(folder / "copy"), "quiesce-test")


def test_taken_at_once(filesystem: Filesystem):
    copy = disk(filesystem.mountpoint, 16 * MIB)
    make_empty(copy)
    made = os.stat(copy.part)
    assert made.st_size == 16 * MIB
    assert made.st_blocks * 512 >= 16 * MIB


def test_none_is_left(filesystem: Filesystem):
    free = os.statvfs(filesystem.mountpoint)
    copy = disk(filesystem.mountpoint, free.f_bfree * free.f_frsize + 64 * MIB)
    with pytest.raises(QuiesceError, match=r"copy\.part' could not be made: No space left on"):
        make_empty(copy)
    assert not os.path.exists(copy.part)


def test_a_filesystem_without_allocation(lab: Lab):
    """As on NFS before 4.2: the file is there, and what is written to it takes the room."""
    with lab.filesystem("ext4", mkfs=("-O", "^extent,^64bit")) as filesystem:
        copy = disk(filesystem.mountpoint, 16 * MIB)
        make_empty(copy)
        made = os.stat(copy.part)
        assert (made.st_size, made.st_blocks) == (16 * MIB, 0)
