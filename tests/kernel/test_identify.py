# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role's providers say of a snapshot with a path: itself, gone, or nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.kernel.lab import Filesystem, Lab, run

VARS = Path(__file__).parents[2] / "roles" / "consistent_snapshot" / "vars" / "main.yml"
GONE, UNKNOWN = 1, 126


def ask(path: Path, source: Path | str) -> int | str:
    """What is said of the snapshot at ``path`` of ``source``, or the status if that fails."""
    said = yaml.safe_load(VARS.read_text())
    script, stat = (
        said["__consistent_snapshot_identify_path"],
        said["__consistent_snapshot_which_file"],
    )
    argv = ["sh", "-c", script, "sh", path, source, *stat, path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode or done.stdout


@pytest.fixture
def disk(lab: Lab) -> Iterator[Filesystem]:
    """Give a filesystem with an image, and a snapshot of that in a folder of its own."""
    with lab.filesystem("ext4") as filesystem:
        (filesystem.mountpoint / "image").touch()
        (filesystem.mountpoint / "kept").mkdir()
        (filesystem.mountpoint / "kept" / "image.one").touch()
        yield filesystem


def test_itself_and_no_other(disk: Filesystem):
    image, snapshot = disk.mountpoint / "image", disk.mountpoint / "kept" / "image.one"
    itself = ask(snapshot, image)
    assert isinstance(itself, str)
    assert ask(snapshot, image) == itself
    snapshot.unlink()
    snapshot.touch()
    assert ask(snapshot, image) not in (itself, GONE, UNKNOWN)


@pytest.mark.parametrize("of", ["image", ""])
def test_gone(disk: Filesystem, of: str):
    source = disk.mountpoint / of if of else ""
    snapshot = disk.mountpoint / "kept" / "image.one"
    snapshot.unlink()
    assert ask(snapshot, source) == GONE
    snapshot.parent.rmdir()
    # Without what it was taken of, nobody knows whether that folder was a mountpoint.
    assert ask(snapshot, source) == (GONE if of else UNKNOWN)


def test_not_mounted(disk: Filesystem):
    image, snapshot = disk.mountpoint / "image", disk.mountpoint / "kept" / "image.one"
    there = ask(snapshot, image)
    disk.unmount()
    assert ask(snapshot, image) == UNKNOWN
    # The folder is there, on another filesystem than what it was taken of.
    snapshot.parent.mkdir()
    try:
        assert ask(snapshot, disk.image) == UNKNOWN
    finally:
        snapshot.parent.rmdir()
    disk.mount()
    assert ask(snapshot, image) == there


def test_cannot_be_read(disk: Filesystem):
    """A path that leads through what is no folder."""
    image = disk.mountpoint / "image"
    assert ask(image / "image.one", image) == UNKNOWN
    run("ln", "-s", "loop", disk.mountpoint / "loop")
    assert ask(disk.mountpoint / "loop" / "image.one", image) == UNKNOWN
