# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine is there, and there is no way in: no sshd, or no memory for one."""

from __future__ import annotations

from datetime import datetime

from tests.faults.table import Table
from tests.kernel.processes import wait_for
from tests.vm.scene import LATE, PATHS, PLAY_SECONDS, Scene

TIMEOUT = 40

_SESSIONS = (
    "cat /sys/fs/cgroup/system.slice/ssh.service/cgroup.procs "
    "/sys/fs/cgroup/user.slice/user-*.slice/session-*.scope/cgroup.procs 2>/dev/null"
)
# Takes all of the memory, twice: the kernel has to kill whatever it can get.
_HOG = "import os\nos.fork()\nhoard = []\nwhile True: hoard.append(b'x' * 2**20)"


def until_deadline(scene: Scene) -> float:
    """Seconds that are left until then, by the machine's own clock."""
    deadline = datetime.fromisoformat(scene.record()["lease"]["deadline"])
    return deadline.timestamp() - float(scene.vm.run("date", "+%s.%N"))


def test_sshd_stopped(scene: Scene, table: Table):
    with scene.frozen(timeout=TIMEOUT) as play:
        scene.vm.run("systemctl", "stop", "ssh")
        scene.vm.run("sh", "-c", f"kill -KILL $({_SESSIONS})")
        assert sorted(scene.vm.frozen()) == sorted(PATHS)
        scene.let()
        left = until_deadline(scene)
        held_for = scene.vm.thawed_after(seconds=60)
        assert play.finish(PLAY_SECONDS) == 4
        play.wait("unreachable", "Thaw")
    # As the kernel says, and as the guard does.
    assert abs(held_for - left) < LATE
    scene.vm.run("systemctl", "start", "ssh")
    result = scene.thaw_anew()
    assert (result["held"], result["thawed_by"]) == (False, "deadline")
    late = result["frozen_seconds"] - TIMEOUT
    assert 0 <= late < LATE
    scene.nothing_lost()
    table.note("machine", "sshd is stopped", "the host, at its deadline", late, "deadline")


def test_out_of_memory(scene: Scene, table: Table):
    with scene.frozen() as play:
        # A unit of its own: systemd stops the unit of which the kernel has killed a process.
        scene.vm.run("systemd-run", "--quiet", "--unit=hog", "python3", "-c", _HOG)
        # Nothing can be started there for a while, not even to look.
        console = scene.vm.folder / "console"
        wait_for(lambda: b"Out of memory: Killed process" in console.read_bytes(), PLAY_SECONDS)
        assert sorted(scene.vm.frozen()) == sorted(PATHS)
        seconds = scene.thaw_well(play)
    scene.nothing_lost()
    table.note("machine", "the OOM killer is at work", "the play", seconds, "request")
