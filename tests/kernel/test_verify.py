# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifying real snapshots: good ones, bad ones, and leaving nothing behind in any case."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _readonly
from ansible_collections.quiesce.storage.plugins.module_utils._verify import verify

from tests.kernel.damage import digest, metadata, overwrite
from tests.kernel.lab import GIB, MIB, Filesystem, Lab, load, run
from tests.kernel.lab.loops import loops_of, mounts
from tests.kernel.modules import arguments_of, call, environment

FILES, SIZE = 40, 70_000
PATIENCE = 60.0


@pytest.fixture
def still(filesystem: Filesystem) -> Path:
    """Give a clean snapshot with files, folders, links, a hole and a file without a name."""
    folder = filesystem.mountpoint / "folder" / "folder"
    folder.mkdir(parents=True)
    for number in range(FILES):
        (folder / f"file-{number}").write_bytes(os.urandom(SIZE))
    (folder / "symlink").symlink_to("/etc/shadow")
    (folder / "link").hardlink_to(folder / "file-0")
    os.mkfifo(folder / "fifo")
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    fd = os.open(folder / "unlinked", os.O_CREAT | os.O_RDWR)
    try:
        os.write(fd, b"x" * SIZE)
        (folder / "unlinked").unlink()
        with filesystem.frozen():
            return filesystem.snapshot()
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def _nothing_is_left(lab: Lab) -> Iterator[None]:
    """A loop device goes when nothing has it mounted; none is there after the test."""
    before = loops_of(lab.folder)
    yield
    await_loops(lab, before)


def await_loops(lab: Lab, wanted: list[str]) -> None:
    """Wait until the lab has no other loop devices than these."""
    deadline = time.monotonic() + PATIENCE
    while loops_of(lab.folder) != wanted:
        assert time.monotonic() < deadline, f"{loops_of(lab.folder)} are there, not {wanted}"
        time.sleep(0.02)


def test_a_good_snapshot_is_verified_and_not_changed(still: Path, filesystem: Filesystem) -> None:
    before = digest(still)
    found = call("snapshot_verify", path=still, fstype=filesystem.fstype)
    assert found["verified"] is True, found
    assert found["reasons"] == []
    assert found["fstype"] == filesystem.fstype
    assert found["files"] == FILES + 1
    assert found["bytes"] == FILES * SIZE
    assert [each["name"] for each in found["checks"]][-1] == "read"
    assert found["seconds"] > 0
    assert found["changed"] is False
    assert digest(still) == before


def test_a_block_device_that_could_be_written_to_is_not_changed(still: Path) -> None:
    before = digest(still)
    device = run("losetup", "--find", "--show", still).stdout.strip()
    try:
        assert call("snapshot_verify", path=device)["verified"] is True
    finally:
        run("losetup", "--detach", device)
    assert digest(still) == before


def test_metadata_alone(still: Path) -> None:
    found = call("snapshot_verify", path=still, read="metadata")
    assert found["verified"] is True
    assert found["files"] == FILES + 1
    assert found["bytes"] == 0


def test_it_reads_the_copy_and_not_the_original(still: Path, filesystem: Filesystem) -> None:
    for number in range(5):
        (filesystem.mountpoint / f"later-{number}").write_bytes(b"x")
    run("sync", "--file-system", filesystem.mountpoint)
    assert call("snapshot_verify", path=still)["files"] == FILES + 1


def test_a_snapshot_of_a_busy_filesystem_is_not_verified(filesystem: Filesystem) -> None:
    """Sooner or later: a btrfs is clean whenever the last fsync on it was a whole commit."""
    deadline = time.monotonic() + PATIENCE
    verdicts: list[bool] = []
    with load(filesystem) as writers, (filesystem.mountpoint / "synced").open("ab") as file:
        while len(verdicts) < 5 or all(verdicts):
            assert time.monotonic() < deadline, "every snapshot was verified"
            writers.sample()
            file.write(b"x" * SIZE)
            file.flush()
            os.fsync(file.fileno())
            image = filesystem.snapshot()
            found = call("snapshot_verify", path=image)
            verdicts.append(found["verified"])
            assert found["verified"] is not bool(found["reasons"])
            image.unlink()


def test_one_with_a_damaged_block_is_not_verified(still: Path, filesystem: Filesystem) -> None:
    places = metadata(still, filesystem.fstype)
    for place in places if filesystem.fstype == "btrfs" else places[:1]:
        overwrite(still, *place)
    found = call("snapshot_verify", path=still)
    assert found["verified"] is False
    assert found["reasons"]
    assert found["checks"][-1]["summary"] == "Not read, since it is not clean."


def test_one_that_is_cut_short_is_not_verified(still: Path) -> None:
    os.truncate(still, 100 * MIB)
    assert call("snapshot_verify", path=still)["verified"] is False


def test_data_that_cannot_be_read_is_named(lab: Lab) -> None:
    """The check of a btrfs finds nothing wrong with it: it does not read the data."""
    with lab.filesystem("btrfs") as filesystem:
        data = os.urandom(1 << 20)
        (filesystem.mountpoint / "good").write_bytes(b"good" * 5000)
        (filesystem.mountpoint / "bad").write_bytes(data)
        with filesystem.frozen():
            image = filesystem.snapshot()
        content = image.read_bytes()
        with image.open("r+b") as file:
            file.seek(content.index(data[4096:8192]))
            file.write(b"wrong")
        found = call("snapshot_verify", path=image)
        assert [each["ok"] for each in found["checks"]] == [True, True, False]
        assert found["verified"] is False
        assert found["reasons"] == ["'/bad' cannot be read: Input/output error."]
        assert call("snapshot_verify", path=image, read="metadata")["verified"] is True


@pytest.mark.parametrize("bad", [False, True])
def test_where_only_the_original_could_be_mounted_the_data_is_checked_without(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, bad: bool
) -> None:
    """Kernels before 6.7 refuse to mount a second btrfs of the same UUID."""

    def refuse(path: str, fstype: str, target: str) -> str:
        raise _readonly.CannotMountError("refused", errno.EEXIST)

    monkeypatch.setattr(_readonly, "mount", refuse)
    with lab.filesystem("btrfs") as filesystem:
        data = os.urandom(1 << 20)
        (filesystem.mountpoint / "file").write_bytes(data)
        with filesystem.frozen():
            image = filesystem.snapshot()
        if bad:
            with image.open("r+b") as file:
                file.seek(image.read_bytes().index(data[4096:8192]))
                file.write(b"wrong")
        found = verify(str(image))
        assert found["verified"] is not bad
        assert found["checks"][-1]["name"] == "btrfs check --check-data-csum"
        assert found["checks"][-1]["argv"][:4] == [
            "btrfs",
            "check",
            "--readonly",
            "--check-data-csum",
        ]
        assert found["files"] == 0


def test_a_subvolume_is_read_where_it_is(lab: Lab) -> None:
    with lab.filesystem("btrfs") as filesystem:
        copy = filesystem.mountpoint / "copy"
        (filesystem.mountpoint / "file").write_bytes(b"x" * SIZE)
        run("btrfs", "subvolume", "snapshot", "-r", filesystem.mountpoint, copy)
        found = call("snapshot_verify", path=copy)
        assert found["verified"] is True
        assert (found["files"], found["bytes"]) == (1, SIZE)
        run("btrfs", "property", "set", "-ts", copy, "ro", "false")
        assert call("snapshot_verify", path=copy)["verified"] is False


def test_reading_that_takes_too_long_fails_and_leaves_nothing(lab: Lab) -> None:
    with lab.filesystem("xfs", size=GIB) as filesystem:
        run("dd", "if=/dev/zero", f"of={filesystem.mountpoint}/file", "bs=1M", "count=300")
        with filesystem.frozen():
            image = filesystem.snapshot()
        found = verify(str(image), read_timeout=0.001)
        assert found["verified"] is False
        assert "longer than read_timeout" in found["reasons"][0]


def test_the_mount_is_seen_by_nobody_and_goes_with_a_module_that_is_killed(
    still: Path, lab: Lab
) -> None:
    before = loops_of(lab.folder)
    argv = arguments_of("snapshot_verify", False, {"path": str(still)})
    caught = 0
    # Ten moments. An ext4 is read so fast that none of them may be in time: then try some more.
    for number in range(100):
        if caught and number >= 10:
            break
        module = subprocess.Popen(argv, env=environment(), stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE
            while loops_of(lab.folder) == before and module.poll() is None:
                assert time.monotonic() < deadline
            time.sleep(number % 10 * 0.002)
            new = set(loops_of(lab.folder)) - set(before)
            assert not [each for each in mounts() if each.source in new]
            caught += bool(new) and module.poll() is None
        finally:
            module.kill()
            module.wait()
        await_loops(lab, before)
    assert caught
