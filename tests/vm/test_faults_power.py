# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine is shut down while its filesystems are frozen: it comes down soon, and cleanly."""

from __future__ import annotations

import time

import pytest

from tests.faults.table import Table
from tests.kernel.lab import run
from tests.kernel.processes import wait_for
from tests.vm.control import MachineError
from tests.vm.machine import Machine
from tests.vm.scene import PLAY_SECONDS, Scene
from tests.vm.state import BOOT_SECONDS

OFF_SECONDS = 60.0
"""A shutdown of the emulated machine takes 3 s; systemd waits 90 s for what does not end."""

UP_SECONDS = 90.0
"""A reboot of it takes 22 s: as long as a shutdown, and a boot."""


def press(vm: Machine, how: str) -> None:
    """Have the machine go down: by a command in it, or by its power button."""
    if how == "button":
        vm.execute("system_powerdown")
    else:
        vm.run("systemctl", "--no-block", how)


def assert_clean(vm: Machine) -> None:
    """Both disks were unmounted: no journal is left to be replayed."""
    for serial in ("root", "data"):
        said = run("dumpe2fs", "-h", vm.image(serial)).stdout
        assert "needs_recovery" not in said, serial
        assert "Filesystem state:         clean" in said, serial


@pytest.mark.parametrize("how", ["poweroff", "button"])
def test_off(scene: Scene, table: Table, how: str):
    with scene.frozen() as play:
        sample = scene.written()
        press(scene.vm, how)
        seconds = scene.vm.qemu.wait_for_end(OFF_SECONDS)
        scene.let()
        assert play.finish(PLAY_SECONDS) == 4
        play.wait("unreachable", "Thaw")
    assert_clean(scene.vm)
    scene.vm.boot()
    assert scene.vm.not_thawed() == {}
    assert scene.lost(sample)["lost"] == 0
    table.note("machine", f"shutdown while frozen ({how})", "the guard, on SIGTERM", seconds)


def test_reboot(scene: Scene, table: Table):
    before = scene.vm.boot_id()
    with scene.frozen() as play:
        sample = scene.written()
        pressed = time.monotonic()
        press(scene.vm, "reboot")
        console = scene.vm.folder / "console"
        wait_for(lambda: b"reboot: Restarting system" in console.read_bytes(), OFF_SECONDS)
        give_up = time.monotonic() + BOOT_SECONDS
        boot = before
        while boot == before:
            assert time.monotonic() < give_up
            try:
                scene.vm.wait_for_ssh()
                boot = scene.vm.boot_id()
            except MachineError:
                continue
        seconds = time.monotonic() - pressed
        assert scene.vm.not_thawed() == {}
        result = scene.thaw(play)
    assert seconds < UP_SECONDS
    # There is no such lease any more: nobody can say that it was held.
    assert not result["changed"]
    assert not result["held"]
    assert scene.lost(sample)["lost"] == 0
    table.note(
        "machine", "reboot while frozen, until it is up again", "the guard, on SIGTERM", seconds
    )
