# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage goes away, or slows down, under a filesystem that is frozen, and comes back."""

from __future__ import annotations

import time

import pytest

from tests.faults.table import Table
from tests.vm.machine import Machine
from tests.vm.scene import PLAY_SECONDS, Scene

PATH = "/srv/gone"
SECTORS = 512 * 2048
DISK = f"0 {SECTORS} linear /dev/disk/by-id/virtio-spare 0"
NOTHING = f"0 {SECTORS} error"
_SETUP = f"""\
set -e
dmsetup create gone --table "{DISK}"
mkfs.%s -q /dev/mapper/gone
mkdir {PATH}
mount /dev/mapper/gone {PATH}
"""


def swap(vm: Machine, table: str) -> None:
    """Put another table under the filesystem, without a word to it."""
    vm.run("dmsetup", "suspend", "--nolockfs", "--noflush", "gone")
    vm.run("dmsetup", "load", "gone", "--table", table)
    vm.run("dmsetup", "resume", "gone")


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_gone_and_back(scene: Scene, table: Table, fstype: str):
    """Frozen filesystems need no storage: it may go and come back without their notice."""
    vm = scene.vm
    vm.run("sh", "-c", _SETUP % fstype)
    vm.run("sh", "-c", f"echo before >{PATH}/file")
    with scene.frozen(path=[PATH]) as play:
        swap(vm, NOTHING)
        assert vm.frozen() == [PATH]
        swap(vm, DISK)
        began = time.monotonic()
        result = scene.thaw(play)
        seconds = time.monotonic() - began
    assert (result["held"], result["thawed_by"]) == (True, "request")
    assert vm.frozen() == []
    fault = f"the storage is gone, and comes back ({fstype})"
    table.note("machine", fault, "the play", seconds, "request")
    vm.run("sh", "-c", f"echo after >>{PATH}/file && sync {PATH}/file")
    assert vm.run("cat", f"{PATH}/file") == "before\nafter\n"


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_gone(scene: Scene, table: Table, fstype: str):
    """A thaw that cannot write still thaws; another filesystem is not held up."""
    vm = scene.vm
    vm.run("sh", "-c", _SETUP % fstype)
    vm.run("sh", "-c", f"echo before >{PATH}/file")
    sample = scene.written()
    with scene.frozen(path=[PATH, "/data"]) as play:
        swap(vm, NOTHING)
        scene.let()
        seconds = vm.thawed_after(seconds=PLAY_SECONDS)
        play.finish(PLAY_SECONDS)
        result = play.wait("ok", "Thaw")["result"]
    assert (result["held"], result["thawed_by"]) == (True, "request")
    scene.nothing_lost(sample)
    table.note("machine", f"the storage is gone ({fstype})", "the play", seconds, "request")
    # The storage is back: what was there before the freeze is there.
    vm.run("umount", PATH)
    swap(vm, DISK)
    vm.run("mount", "/dev/mapper/gone", PATH)
    assert vm.run("cat", f"{PATH}/file") == "before\n"
