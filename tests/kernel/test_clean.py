# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker on real snapshots: of frozen filesystems, of busy ones, and of neither."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._clean import judge
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError

from tests.kernel.damage import digest, metadata, overwrite
from tests.kernel.lab import FSTYPES, GIB, MIB, Filesystem, Lab, Load, load, run

SNAPSHOTS = int(os.environ.get("QUIESCE_SNAPSHOTS", "5"))
# Long enough for every writer to have finished much since the last snapshot.
PAUSE = 0.4


@pytest.fixture(scope="module", params=FSTYPES)
def busy(request: pytest.FixtureRequest, lab: Lab) -> Iterator[tuple[Filesystem, Load]]:
    """Give a filesystem under load, one for all tests of a type.

    It is roomy, because a small btrfs allocates chunks all the time, and then makes an fsync a
    whole commit, which leaves no log.
    """
    with lab.filesystem(request.param, size=2 * GIB) as made, load(made) as writers:
        time.sleep(2)
        yield made, writers


def _lost(lab: Lab, image: Path, fstype: str, writers: Load, sample: str) -> dict[str, int]:
    with lab.mounted(image, fstype) as folder:
        return writers.lost(folder, sample)


def test_snapshots_of_a_frozen_filesystem_are_clean_and_lose_nothing(
    lab: Lab, busy: tuple[Filesystem, Load]
) -> None:
    filesystem, writers = busy
    for _each in range(SNAPSHOTS):
        time.sleep(PAUSE)
        sample = writers.sample()
        with filesystem.frozen():
            image = filesystem.snapshot()
        verdict = judge(str(image))
        assert verdict.clean, verdict.reasons
        assert verdict.fstype == filesystem.fstype
        assert not any(_lost(lab, image, filesystem.fstype, writers, sample).values())
        image.unlink()


def test_most_snapshots_of_a_busy_filesystem_are_not_clean_and_lose_something(
    lab: Lab, busy: tuple[Filesystem, Load]
) -> None:
    filesystem, writers = busy
    unclean = losing = 0
    for _each in range(SNAPSHOTS):
        time.sleep(PAUSE)
        sample = writers.sample()
        image = filesystem.snapshot()
        unclean += not judge(str(image)).clean
        losing += any(_lost(lab, image, filesystem.fstype, writers, sample).values())
        image.unlink()
    assert unclean > SNAPSHOTS / 2
    assert losing > SNAPSHOTS / 2


def test_open_but_unlinked_files_count_only_when_asked(
    busy: tuple[Filesystem, Load],
) -> None:
    filesystem, _writers = busy
    folder = filesystem.mountpoint
    fds = []
    try:
        for number in range(70):  # more than XFS has lists of them
            path = folder / f"open-{number}"
            fds.append(os.open(path, os.O_CREAT | os.O_RDWR))
            os.write(fds[-1], b"x" * 50_000)
            path.unlink()
        (folder / "room").mkdir()
        fds.append(os.open(folder / "room", os.O_RDONLY))
        (folder / "room").rmdir()
        with filesystem.frozen():
            image = filesystem.snapshot()
        verdict = judge(str(image))
        assert verdict.clean, verdict.reasons
        # btrfs check says nothing about them.
        assert judge(str(image), orphans=True).clean == (filesystem.fstype == "btrfs")
        image.unlink()
    finally:
        for fd in fds:
            os.close(fd)


def test_open_but_unlinked_files_count_for_quotas(tmp_path: Path) -> None:
    """The kernel has them in its count until they are closed, and e2fsck has not."""
    image, commands = tmp_path / "image", tmp_path / "commands"
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "open").write_bytes(b"x" * 50_000)
    argv = ("mke2fs", "-q", "-t", "ext4", "-O", "quota", "-d", tmp_path / "files", image, "16M")
    run(*argv)
    # Counts for the first time what mke2fs has put there.
    run("e2fsck", "-fy", image, check=False)
    assert judge(str(image), orphans=True).clean
    # As an unlink leaves it: the first inode that is not the filesystem's own.
    commands.write_text("sif open links_count 0\nssv last_orphan 12\nunlink open\n")
    run("debugfs", "-w", "-f", commands, image)
    done = run("e2fsck", "-fn", image, check=False)
    assert "QUOTA WARNING" in done.stdout + done.stderr
    verdict = judge(str(image))
    assert verdict.clean, verdict.reasons
    assert not judge(str(image), orphans=True).clean


def test_judging_changes_nothing_and_takes_a_block_device_too(
    lab: Lab, busy: tuple[Filesystem, Load]
) -> None:
    filesystem, _writers = busy
    for frozen in (True, False):
        if frozen:
            with filesystem.frozen():
                image = filesystem.snapshot()
        else:
            image = filesystem.snapshot()
        before = digest(image)
        of_file = judge(str(image), orphans=True)
        device = run("losetup", "--find", "--show", "--read-only", image).stdout.strip()
        try:
            of_device = judge(device, orphans=True)
        finally:
            run("losetup", "--detach", device)
        assert digest(image) == before
        assert of_device.clean == of_file.clean
        image.unlink()


@pytest.fixture
def still(lab: Lab, filesystem: Filesystem) -> Path:
    """Give a clean snapshot of a filesystem with a few hundred files."""
    for number in range(300):
        folder = filesystem.mountpoint / f"folder-{number % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"file-{number}").write_bytes(b"x" * 5000)
    with filesystem.frozen():
        return filesystem.snapshot()


def test_a_damaged_snapshot_is_not_clean(still: Path, filesystem: Filesystem) -> None:
    verdict = judge(str(still))
    assert verdict.clean, verdict.reasons
    places = metadata(still, filesystem.fstype)
    assert len(places) > 1
    damages = [places] if filesystem.fstype == "btrfs" else [[place] for place in places]
    for number, damage in enumerate(damages):
        copy = still.with_name(f"{still.stem}-damage-{number}.img")
        run("cp", "--reflink=always", still, copy)
        for place in damage:
            overwrite(copy, *place)
        verdict = judge(str(copy))
        assert not verdict.clean
        assert verdict.reasons
        copy.unlink()


def test_a_snapshot_cut_short_is_not_clean(still: Path) -> None:
    os.truncate(still, 100 * MIB)
    assert not judge(str(still)).clean


def test_a_snapshot_without_its_superblock_is_not_clean(still: Path) -> None:
    overwrite(still, 0, 128 * 1024)
    verdict = judge(str(still))
    assert verdict.fstype is None
    assert not verdict.clean


def test_another_type_than_the_one_asked_for_is_not_clean(
    still: Path, filesystem: Filesystem
) -> None:
    other = "ext4" if filesystem.fstype == "xfs" else "xfs"
    assert not judge(str(still), fstype=other).clean
    assert judge(str(still), fstype=filesystem.fstype).clean


def test_a_missing_tool_is_named_with_its_package(still: Path, filesystem: Filesystem) -> None:
    package = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
    with pytest.raises(QuiesceError, match=f"install the package {package[filesystem.fstype]}"):
        judge(str(still), search="")


@pytest.mark.parametrize("content", [b"", b"no filesystem", b"\0" * 200_000])
def test_a_file_that_is_no_filesystem_is_not_clean(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    verdict = judge(str(path))
    assert not verdict.clean
    assert "no superblock" in verdict.reasons[0]


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QuiesceError, match="No such file"):
        judge(str(tmp_path / "missing"))


@pytest.mark.parametrize("path", ["", "relative", "-n", "/nul\0"])
def test_a_path_that_is_not_absolute_is_an_error(path: str) -> None:
    with pytest.raises(QuiesceError, match="not an absolute path"):
        judge(path)


def test_a_character_device_is_an_error() -> None:
    with pytest.raises(QuiesceError, match="no image file"):
        judge("/dev/null")


def test_a_subvolume_is_clean_if_nobody_can_write_to_it(lab: Lab) -> None:
    with lab.filesystem("btrfs") as filesystem:
        source, copy = filesystem.mountpoint / "source", filesystem.mountpoint / "copy"
        run("btrfs", "subvolume", "create", source)
        run("btrfs", "subvolume", "snapshot", "-r", source, copy)
        (source / "folder").mkdir()
        assert judge(str(copy)).clean
        assert not judge(str(source)).clean
        assert not judge(str(source / "folder")).clean
    assert not judge(str(lab.folder)).clean
