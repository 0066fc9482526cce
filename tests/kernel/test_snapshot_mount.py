# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounting real snapshots beside their originals, and unmounting nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.damage import digest
from tests.kernel.lab import Filesystem, Lab, run
from tests.kernel.lab.loops import loops_of, mounts
from tests.kernel.modules import Failed, call


@pytest.fixture
def snapshot(filesystem: Filesystem) -> Path:
    """Give a snapshot with a file ``told``, and a file open but without a name."""
    (filesystem.mountpoint / "told").write_text("told")
    fd = os.open(filesystem.mountpoint / "unlinked", os.O_CREAT | os.O_RDWR)
    try:
        os.write(fd, b"x" * 50_000)
        (filesystem.mountpoint / "unlinked").unlink()
        with filesystem.frozen():
            image = filesystem.snapshot()
    finally:
        os.close(fd)
    (filesystem.mountpoint / "told").write_text("later")
    run("sync", "--file-system", filesystem.mountpoint)
    return image


@pytest.fixture
def point(lab: Lab) -> Iterator[Path]:
    """Give the name of a mountpoint that is not there yet."""
    path = lab.folder / "points" / "one"
    before = loops_of(lab.folder)
    yield path
    run("umount", "--lazy", path, check=False)
    assert loops_of(lab.folder) >= before
    for folder in (path, path.parent):
        folder.rmdir() if folder.exists() else None


def mounted(path: Path, point: Path, **options: Any) -> dict[str, Any]:
    """Have it mounted."""
    return call("snapshot_mount", path=path, mountpoint=point, **options)


def unmounted(path: Path, point: Path, **options: Any) -> dict[str, Any]:
    """Have it unmounted."""
    return call("snapshot_mount", path=path, mountpoint=point, state="unmounted", **options)


def on(point: Path) -> list[str]:
    """What is mounted there."""
    return [each.source for each in mounts() if each.mountpoint == str(point)]


def test_mount_and_unmount_twice(snapshot: Path, point: Path, lab: Lab) -> None:
    before, loops = digest(snapshot), loops_of(lab.folder)
    assert mounted(snapshot, point, check=True)["changed"] is True
    assert not point.exists()
    first, second = mounted(snapshot, point), mounted(snapshot, point)
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["mounted"]
    assert first["source"] == second["source"]
    assert on(point) == [first["source"]]
    assert (point / "told").read_text() == "told"
    with pytest.raises(OSError, match="Read-only"):
        (point / "new").touch()
    assert unmounted(snapshot, point, check=True)["changed"] is True
    assert on(point)
    first, second = unmounted(snapshot, point), unmounted(snapshot, point)
    assert (first["changed"], second["changed"]) == (True, False)
    assert not second["mounted"]
    assert on(point) == []
    assert loops_of(lab.folder) == loops
    assert digest(snapshot) == before


def test_a_block_device_is_not_written_to(snapshot: Path, point: Path) -> None:
    before = digest(snapshot)
    device = run("losetup", "--find", "--show", snapshot).stdout.strip()
    try:
        assert mounted(Path(device), point)["source"] != device
        assert not mounted(Path(device), point)["changed"]
        assert (point / "told").read_text() == "told"
        assert unmounted(Path(device), point)["changed"]
    finally:
        run("umount", point, check=False)
        run("losetup", "--detach", device)
    assert digest(snapshot) == before


def test_what_is_in_use_is_unmounted_only_if_that_is_asked_for(
    snapshot: Path, point: Path, lab: Lab
) -> None:
    loops = loops_of(lab.folder)
    mounted(snapshot, point)
    fd = os.open(point / "told", os.O_RDONLY)
    try:
        with pytest.raises(Failed, match="is in use"):
            unmounted(snapshot, point)
        assert "when its last user is" in unmounted(snapshot, point, lazy=True)["msg"]
        assert on(point) == []
        assert loops_of(lab.folder) != loops
        assert os.read(fd, 10) == b"told"
    finally:
        os.close(fd)
    assert loops_of(lab.folder) == loops


def test_something_else_is_left_alone(snapshot: Path, filesystem: Filesystem, point: Path) -> None:
    other = snapshot.with_name("other.img")
    run("cp", "--reflink=always", snapshot, other)
    with pytest.raises(Failed, match="is the mountpoint of something else"):
        unmounted(snapshot, filesystem.mountpoint)
    with pytest.raises(Failed, match="is the mountpoint of something else"):
        mounted(snapshot, filesystem.mountpoint)
    mounted(other, point)
    with pytest.raises(Failed, match="is the mountpoint of something else"):
        unmounted(snapshot, point)
    assert unmounted(other, point)["changed"]
    other.unlink()


def test_one_that_has_been_deleted_can_be_unmounted(snapshot: Path, point: Path) -> None:
    mounted(snapshot, point)
    snapshot.unlink()
    assert unmounted(snapshot, point)["changed"]
    assert on(point) == []


def test_a_subvolume(lab: Lab, point: Path) -> None:
    with lab.filesystem("btrfs") as filesystem:
        copy = filesystem.mountpoint / "copy"
        (filesystem.mountpoint / "told").write_text("told")
        run("btrfs", "subvolume", "snapshot", "-r", filesystem.mountpoint, copy)
        assert [mounted(copy, point)["changed"] for _each in range(2)] == [True, False]
        assert mounted(copy, point)["source"] == str(copy)
        assert (point / "told").read_text() == "told"
        with pytest.raises(Failed, match="is the mountpoint of something else"):
            unmounted(filesystem.mountpoint, point)
        assert [unmounted(copy, point)["changed"] for _each in range(2)] == [True, False]


@pytest.mark.parametrize("content", [b"", b"no filesystem"])
def test_what_is_no_snapshot(tmp_path: Path, point: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(Failed, match="holds no filesystem that is known here"):
        mounted(path, point)
    with pytest.raises(Failed, match="No such file"):
        mounted(tmp_path / "missing", point)
    with pytest.raises(Failed, match="is not absolute"):
        mounted(path, Path("relative"))


def test_one_that_the_kernel_refuses_leaves_no_loop_device(
    snapshot: Path, filesystem: Filesystem, point: Path, lab: Lab
) -> None:
    loops = loops_of(lab.folder)
    other = "ext4" if filesystem.fstype == "xfs" else "xfs"
    with pytest.raises(Failed, match="The kernel does not mount it as"):
        mounted(snapshot, point, fstype=other)
    assert loops_of(lab.folder) == loops
