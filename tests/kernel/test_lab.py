# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab takes down whatever a test leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import (
    GIB,
    MIB,
    Filesystem,
    Lab,
    LabError,
    leftovers,
    open_lab,
    remove_crashed_labs,
    run,
    throttled,
)
from tests.kernel.lab.loops import attach, detach, loops_of
from tests.kernel.lab.teardown import PREFIX

ROOT = Path(__file__).resolve().parents[2]
CRASH = """
import os, sys
from pathlib import Path
from tests.kernel.lab import GIB, open_lab
lab_manager = open_lab(Path(sys.argv[1]))
lab = lab_manager.__enter__()
outer_manager = lab.filesystem("xfs", 2 * GIB)
outer = outer_manager.__enter__()
inner_manager = lab.filesystem("ext4", on=outer)
inner = inner_manager.__enter__()
inner.freeze()
inner.unmount()
outer.freeze()
outer.unmount(lazy=True)
lab.base.freeze()
os._exit(9)
"""


def freeze_and_unmount(filesystem: Filesystem) -> None:
    filesystem.freeze()
    filesystem.unmount()


def freeze_and_unmount_lazily(filesystem: Filesystem) -> None:
    filesystem.freeze()
    filesystem.unmount(lazy=True)


LEFT_BEHIND = [Filesystem.freeze, Filesystem.unmount, freeze_and_unmount, freeze_and_unmount_lazily]


@pytest.mark.parametrize("leave", LEFT_BEHIND)
@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_a_filesystem_is_taken_down_from_any_state(
    lab: Lab, fstype: str, leave: Callable[[Filesystem], None]
) -> None:
    with lab.filesystem(fstype) as filesystem:
        argv = ["sh", "-c", 'cd "$0" && echo here && while :; do echo x > file; done']
        writer = subprocess.Popen(
            [*argv, filesystem.mountpoint], stdout=subprocess.PIPE, start_new_session=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        if leave in (Filesystem.unmount, freeze_and_unmount):
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        leave(filesystem)
    assert filesystem.device not in loops_of(lab.folder)
    assert writer.wait(10) != 0
    writer.stdout.close()


def test_nested_filesystems_are_taken_down_frozen_all_of_them(lab: Lab) -> None:
    with (
        lab.filesystem("btrfs", GIB) as outer,
        lab.filesystem("xfs", 400 * MIB, on=outer) as inner,
    ):
        (inner.mountpoint / "file").write_bytes(b"x" * MIB)
        inner.freeze()
        outer.freeze()
        lab.base.freeze()
    assert inner.device not in loops_of(lab.folder)
    assert outer.device not in loops_of(lab.folder)
    assert not lab.base.thaw()


def test_a_mount_namespace_of_somebody_else_does_not_hold_a_filesystem(lab: Lab) -> None:
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo here; read line"]
    with lab.filesystem("xfs") as filesystem:
        other = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert other.stdout is not None
        other.stdout.readline()
    assert filesystem.device not in loops_of(lab.folder)
    assert other.poll() is None
    other.communicate(b"\n")


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder with a short name; at the end no lab may be left in it."""
    path = Path(tempfile.mkdtemp(prefix="quiesce-", dir="/var/tmp"))
    yield path
    remove_crashed_labs(path)
    path.rmdir()


def test_a_crashed_lab_is_taken_down_by_the_next(place: Path) -> None:
    argv: list[str | Path] = [sys.executable, "-c", CRASH, place]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(argv, env=environment, check=False).returncode == 9
    (folder,) = place.glob(PREFIX + "*")
    assert leftovers(folder)
    assert remove_crashed_labs(place) == [folder]
    assert not leftovers(folder)


def test_a_lab_is_not_opened_in_a_folder_with_a_long_name(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="too long"), open_lab(tmp_path / ("x" * 64)):
        pass


def test_a_frozen_filesystem_is_thawed_by_itself_if_the_test_dies(filesystem: Filesystem) -> None:
    with filesystem.frozen(at_most=0.5):
        time.sleep(1.5)
        assert not filesystem.thaw()


def test_a_device_can_be_held_to_a_rate(lab: Lab, filesystem: Filesystem) -> None:
    with throttled(lab.base.device, 20 * MIB):
        begin = time.monotonic()
        with (filesystem.mountpoint / "file").open("wb") as file:
            file.write(os.urandom(20 * MIB))
            file.flush()
            os.fsync(file.fileno())
        slow = time.monotonic() - begin
    assert slow > 0.8


def test_a_loop_device_says_that_there_is_no_room_below(lab: Lab) -> None:
    with lab.filesystem("ext4", 64 * MIB, mkfs=("-b", "4096", "-m", "0")) as below:
        image = below.mountpoint / "image"
        with image.open("wb") as file:
            file.write(os.urandom(4096))  # the beginning of what is written later has its room
            file.truncate(MIB)
        device = attach(image, direct_io=True)
        try:
            ballast = below.mountpoint / "ballast"
            run("dd", "if=/dev/zero", f"of={ballast}", "bs=4096", "conv=fsync", check=False)
            with open(device, "r+b", buffering=0) as written:
                written.write(os.urandom(MIB // 2))
                with pytest.raises(OSError, match="Input/output error"):
                    os.fsync(written.fileno())
        finally:
            detach(device)


def test_a_snapshot_does_not_replace_another(filesystem: Filesystem) -> None:
    filesystem.snapshot("one")
    with pytest.raises(LabError, match="exists"):
        filesystem.snapshot("one")
