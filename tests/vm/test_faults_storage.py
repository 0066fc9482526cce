# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage goes away, or slows down, under a filesystem that is frozen, and comes back."""

from __future__ import annotations

import pytest

from tests.faults.table import Table
from tests.kernel.processes import wait_for
from tests.vm.control import MachineError
from tests.vm.machine import Machine
from tests.vm.scene import DATA, PLAY_SECONDS, Scene

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
    scene.write(PATH)
    with scene.frozen(path=[PATH]) as play:
        swap(vm, NOTHING)
        assert vm.frozen() == [PATH]
        with pytest.raises(MachineError, match="Input/output error"):
            vm.run("dd", "if=/dev/mapper/gone", "of=/dev/null", "iflag=direct", "count=8")
        swap(vm, DISK)
        seconds = scene.thaw_well(play)
    scene.nothing_lost(PATH)
    fault = f"the storage is gone, and comes back ({fstype})"
    table.note("machine", fault, "the play", seconds, "request")
    vm.run("sh", "-c", f"echo after >>{PATH}/file && sync {PATH}/file")
    assert vm.run("cat", f"{PATH}/file") == "before\nafter\n"


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_gone(scene: Scene, table: Table, fstype: str):
    """A thaw that cannot write still thaws; another filesystem is not held up.

    Programs that write to what is gone are told of errors, and lose nothing from before the freeze.
    """
    vm = scene.vm
    vm.run("sh", "-c", _SETUP % fstype)
    scene.write(PATH)
    with scene.frozen(path=[PATH, DATA]) as play:
        sample = scene.written(PATH)
        assert scene.writes(PATH)
        swap(vm, NOTHING)
        scene.let()
        seconds = vm.thawed_after(seconds=PLAY_SECONDS)
        assert play.finish(PLAY_SECONDS) == 0
        result = play.wait("ok", "Thaw")["result"]
    assert (result["held"], result["thawed_by"]) == (True, "request")
    scene.nothing_lost(DATA)
    table.note("machine", f"the storage is gone ({fstype})", "the play", seconds, "request")
    # The storage is back: what was there before the freeze is there.
    wait_for(lambda: not scene.writes(PATH), PLAY_SECONDS)
    vm.run("umount", PATH)
    swap(vm, DISK)
    vm.run("mount", "/dev/mapper/gone", PATH)
    assert scene.lost(sample, PATH)["lost"] == 0
