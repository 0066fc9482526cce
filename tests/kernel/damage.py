# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing damage to images, and seeing whether anything has been done to them."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from tests.kernel.lab import MIB, run


def digest(image: Path) -> str:
    """Return a checksum of what is in the file and where; holes are passed over."""
    found = hashlib.sha256()
    with image.open("rb") as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                return found.hexdigest()  # nothing but a hole follows
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            file.seek(start)
            found.update(b"%d %d " % (start, end))
            while file.tell() < end:
                found.update(file.read(min(MIB, end - file.tell())))


def overwrite(image: Path, offset: int, size: int) -> None:
    """Write rubbish over ``size`` bytes at ``offset``."""
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * size)


def metadata(image: Path, fstype: str) -> list[tuple[int, int]]:
    """Return offsets and sizes of metadata, apart from the superblock, to do damage to."""
    if fstype == "ext4":
        said = run("dumpe2fs", image).stdout
        tables = re.findall(r"Inode table at (\d+)-", said)
        bitmaps = re.findall(r"Block bitmap at (\d+)", said)
        return [(int(tables[0]) * 4096, 4096), (int(bitmaps[0]) * 4096, 4096)]
    if fstype == "xfs":  # headers of the first allocation group, roots of its trees
        return [(512, 1536), (4096, 4 * 4096)]
    # Both copies of the same tree blocks: btrfs shrugs off the loss of one.
    data = image.read_bytes()
    fsid = data[65536 + 0x20 : 65536 + 0x30]
    blocks = range(MIB, len(data), 16384)
    return [(at, 16384) for at in blocks if data[at + 0x20 : at + 0x30] == fsid]
