# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine is there, and there is no way in: no sshd, or no memory for one."""

from __future__ import annotations

import time

from tests.faults.table import Table
from tests.kernel.processes import wait_for
from tests.vm.scene import PATHS, PLAY_SECONDS, Scene

_SESSIONS = (
    "cat /sys/fs/cgroup/system.slice/ssh.service/cgroup.procs "
    "/sys/fs/cgroup/user.slice/user-*.slice/session-*.scope/cgroup.procs 2>/dev/null"
)
# Takes all of the memory, twice: the kernel has to kill whatever it can get.
_HOG = "import os\nos.fork()\nhoard = []\nwhile True: hoard.append(b'x' * 2**20)"


def test_sshd_stopped(scene: Scene, table: Table):
    sample = scene.written()
    with scene.frozen(timeout=25) as play:
        frozen_at = time.monotonic()
        scene.vm.run("systemctl", "stop", "ssh")
        scene.vm.run("sh", "-c", f"kill -KILL $({_SESSIONS})")
        assert sorted(scene.vm.frozen()) == sorted(PATHS)
        scene.let()
        assert play.finish(PLAY_SECONDS) == 4
        play.wait("unreachable", "Thaw")
        scene.vm.thawed_after(seconds=60)
        assert time.monotonic() - frozen_at < PLAY_SECONDS
    scene.vm.run("systemctl", "start", "ssh")
    result = scene.thaw_anew()
    assert (result["held"], result["thawed_by"]) == (False, "deadline")
    scene.nothing_lost(sample)
    late = result["frozen_seconds"] - 25
    table.note("machine", "sshd is stopped", "the host, at its deadline", late, "deadline")


def test_out_of_memory(scene: Scene, table: Table):
    sample = scene.written()
    with scene.frozen() as play:
        # A unit of its own: systemd stops the unit of which the kernel has killed a process.
        scene.vm.run("systemd-run", "--quiet", "--unit=hog", "python3", "-c", _HOG)
        # Nothing can be started there for a while, not even to look.
        console = scene.vm.folder / "console"
        wait_for(lambda: b"Out of memory: Killed process" in console.read_bytes(), PLAY_SECONDS)
        assert sorted(scene.vm.frozen()) == sorted(PATHS)
        began = time.monotonic()
        result = scene.thaw(play)
        seconds = time.monotonic() - began
    assert (result["held"], result["thawed_by"]) == (True, "request")
    assert scene.vm.frozen() == []
    scene.nothing_lost(sample)
    table.note("machine", "the OOM killer is at work", "the play", seconds, "request")
