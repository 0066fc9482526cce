# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All processes of the guard are killed at once. PID 1 of a real machine is left to thaw."""

from __future__ import annotations

import time

from tests.faults.table import Table
from tests.kernel.processes import wait_for
from tests.vm.scene import DATA, LEASE, PLAY_SECONDS, Scene

# Stopped first, so that none of them acts on the death of another.
KILL = (
    f"pids=$(cat /sys/fs/cgroup/system.slice/quiesce-{LEASE}-*.service/cgroup.procs) && "
    "kill -STOP $pids && kill -KILL $pids"
)
RELOAD_SECONDS = 150.0
NOT_SLOW = "the end of the slow storage"
_SLEEPERS = """\
for each in /proc/[0-9]*; do
    ! grep -qs '^State:.D' $each/status || cat $each/cmdline
done"""
SLOW = {"bps": 0, "bps_rd": 0, "bps_wr": 1 << 20, "iops": 0, "iops_rd": 0, "iops_wr": 0}


def slow(scene: Scene, bytes_per_second: int) -> None:
    """Hold the disk of DATA to a rate for writing; 0 lifts it."""
    limits = {**SLOW, "bps_wr": bytes_per_second}
    scene.vm.execute("block_set_io_throttle", device="data", **limits)


def dirty(scene: Scene, mib: int) -> None:
    """Leave that much to be written to DATA's disk."""
    scene.vm.run("dd", "if=/dev/zero", f"of={DATA}/dirty", "bs=1M", f"count={mib}")


def writing(scene: Scene) -> bool:
    """Whether a write to DATA's disk is under way."""
    _reads, writes = scene.vm.run("cat", "/sys/block/vdb/inflight").split()
    return writes != "0"


def nothing_left(scene: Scene) -> None:
    wait_for(lambda: not scene.guard(), 30)
    assert scene.vm.frozen() == []


def test_frozen(scene: Scene, table: Table):
    sample = scene.written()
    with scene.frozen() as play:
        assert len(scene.guard()) > 2
        seconds = scene.vm.thawed_after("sh", "-c", KILL, seconds=60)
        result = scene.thaw(play)
        assert play.finish(PLAY_SECONDS) == 0
    assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
    nothing_left(scene)
    scene.nothing_lost(sample)
    table.note("machine", "all of the guard is killed at once", "PID 1", seconds)


def reload_pid_1(scene: Scene) -> None:
    """Have PID 1 read its units anew. It waits for generators, and they for the root filesystem."""
    scene.vm.run("sh", "-c", "setsid systemctl daemon-reload >/dev/null 2>&1 &")
    wait_for(lambda: "generator" in scene.vm.run("sh", "-c", _SLEEPERS), PLAY_SECONDS)


def test_pid_1_reloads(scene: Scene, table: Table):
    """PID 1 is stuck on the frozen root filesystem; the thaw does without it."""
    sample = scene.written()
    with scene.frozen() as play:
        reload_pid_1(scene)
        began = time.monotonic()
        result = scene.thaw(play)
        seconds = time.monotonic() - began
    assert (result["held"], result["thawed_by"]) == (True, "request")
    scene.vm.run("systemctl", "daemon-reload", timeout=60)
    nothing_left(scene)
    scene.nothing_lost(sample)
    table.note("machine", "PID 1 is stuck on /", "the play", seconds, "request")


def test_pid_1_reloads_and_the_guard_is_killed(scene: Scene, table: Table):
    """PID 1 gives up its generators after 90 seconds, and only then can it thaw."""
    sample = scene.written()
    with scene.frozen() as play:
        reload_pid_1(scene)
        seconds = scene.vm.thawed_after("sh", "-c", KILL, seconds=RELOAD_SECONDS)
        result = scene.thaw(play)
    assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
    nothing_left(scene)
    scene.nothing_lost(sample)
    fault = "all of the guard is killed at once, and PID 1 is stuck on /"
    table.note("machine", fault, "PID 1, when it gives up its generators", seconds)


def test_flushing(scene: Scene, table: Table):
    slow(scene, 2 << 20)
    dirty(scene, 24)
    with scene.play(path=[DATA]) as play:
        wait_for(scene.guard, PLAY_SECONDS)
        scene.vm.run("sh", "-c", KILL)
        assert scene.vm.frozen() == []
        result = scene.wait(play, "failed", "Freeze")["result"]
        slow(scene, 0)
        scene.let()
        assert play.finish(PLAY_SECONDS) == 2
    assert "guard" in result["msg"]
    nothing_left(scene)
    fault = "all of the guard is killed at once while it flushes"
    table.note("machine", fault, "nobody has to: nothing was frozen", 0)


def test_freezing(scene: Scene, table: Table):
    """PID 1 thaws behind the FIFREEZE that nobody can stop."""
    slow(scene, 2 << 20)
    dirty(scene, 24)
    with scene.play(path=[DATA], flush=False) as play:
        wait_for(lambda: scene.vm.states()[DATA] == "freezing", PLAY_SECONDS)
        scene.vm.run("sh", "-c", KILL)
        result = scene.wait(play, "failed", "Freeze")["result"]
        slow(scene, 0)
        seconds = scene.vm.thawed_after(seconds=60)
        scene.let()
        assert play.finish(PLAY_SECONDS) == 2
    assert "guard" in result["msg"]
    nothing_left(scene)
    fault = "all of the guard is killed at once while it freezes"
    table.note("machine", fault, "PID 1", seconds, NOT_SLOW)


def test_thawing(scene: Scene, table: Table):
    """Killed within the FITHAW: whoever asked for the thaw is not told that all went well."""
    sample = scene.written()
    with scene.frozen() as play:
        slow(scene, 512)
        # The disk lets this pass, and nothing else for two minutes. It writes what is there.
        disk = "/dev/disk/by-id/virtio-data"
        scene.vm.run("dd", f"if={disk}", f"of={disk}", "bs=64k", "count=1", "oflag=direct")
        scene.let()
        wait_for(lambda: writing(scene), PLAY_SECONDS)
        scene.vm.run("sh", "-c", KILL)
        slow(scene, 0)
        seconds = scene.vm.thawed_after(seconds=60)
        play.finish(PLAY_SECONDS)
        result = play.wait("ok", "Thaw")["result"]
    assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
    nothing_left(scene)
    scene.nothing_lost(sample)
    fault = "all of the guard is killed at once while it thaws"
    table.note("machine", fault, "PID 1", seconds, NOT_SLOW)
