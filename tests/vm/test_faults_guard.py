# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All processes of the guard are killed at once. PID 1 of a real machine is left to thaw."""

from __future__ import annotations

import time

import pytest

from tests.faults.table import Table
from tests.kernel.processes import wait_for
from tests.vm.scene import DATA, GUARD, PLAY_SECONDS, SOON, Scene

# Stopped first, so that none of them acts on the death of another.
_KILL = "kill -STOP $pids && kill -KILL $pids"
KILL = f"pids=$({GUARD}) && {_KILL}"
LOST = "the guard was killed while it froze"
STAYS_SECONDS = 2.0
RELOAD_SECONDS = 150.0
NOT_SLOW = "the end of the slow storage"
_SLEEPERS = """\
for each in /proc/[0-9]*; do
    ! grep -qs '^State:.D' $each/status || cat $each/cmdline
done"""
# What is dirty stays so until somebody asks for it to be written, however long that takes.
_HOLD_BACK = """\
cd /proc/sys/vm &&
echo 0 >dirty_writeback_centisecs &&
echo 80 >dirty_ratio &&
echo 70 >dirty_background_ratio"""
# The threads of the guard that are in the kernel's syncfs().
_IN_SYNCFS = f"""\
for pid in $({GUARD}); do
    cat /proc/$pid/task/*/stack
done | grep -c syncfs || :"""
SLOW = {"bps": 0, "bps_rd": 0, "bps_wr": 1 << 20, "iops": 0, "iops_rd": 0, "iops_wr": 0}


def slow(scene: Scene, bytes_per_second: int) -> None:
    """Hold the disk of DATA to a rate for writing; 0 lifts it."""
    limits = {**SLOW, "bps_wr": bytes_per_second}
    scene.vm.execute("block_set_io_throttle", device="data", **limits)


def slow_and_dirty(scene: Scene) -> None:
    """Have the next flush of DATA, by whomever, take a minute."""
    scene.vm.run("sh", "-c", _HOLD_BACK)
    slow(scene, 512 << 10)
    scene.vm.run("dd", "if=/dev/zero", f"of={DATA}/dirty", "bs=1M", "count=32")


def writing(scene: Scene) -> bool:
    """Whether a write to DATA's disk is under way."""
    _reads, writes = scene.vm.run("cat", "/sys/block/vdb/inflight").split()
    return writes != "0"


def flushing(scene: Scene) -> bool:
    """Whether the guard flushes, and the kernel is at it."""
    in_syncfs = int(scene.vm.run("sh", "-c", _IN_SYNCFS))
    return in_syncfs > 0 and scene.record().get("phase") == "flushing"


def ended_unfrozen(scene: Scene) -> bool:
    """Whether all of the guard is gone; nothing must be frozen meanwhile."""
    assert scene.vm.not_thawed() == {}
    return not scene.guard()


def nothing_left(scene: Scene) -> None:
    """All of the guard is gone, and so is what it froze; writers go on."""
    wait_for(lambda: not scene.guard(), PLAY_SECONDS)
    assert scene.vm.not_thawed() == {}
    scene.nothing_lost()


def test_frozen(scene: Scene, table: Table):
    with scene.frozen() as play:
        assert len(scene.guard()) > 2
        seconds = scene.vm.thawed_after("sh", "-c", KILL, seconds=SOON)
        result = scene.thaw(play)
    assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
    nothing_left(scene)
    table.note("machine", "all of the guard is killed at once", "PID 1", seconds)


def reload_pid_1(scene: Scene) -> None:
    """Have PID 1 read its units anew. It waits for generators, and they for the root filesystem."""
    scene.vm.run("sh", "-c", "setsid systemctl daemon-reload >/dev/null 2>&1 &")
    wait_for(lambda: "generator" in scene.vm.run("sh", "-c", _SLEEPERS), PLAY_SECONDS)


def test_pid_1_reloads(scene: Scene, table: Table):
    """PID 1 is stuck on the frozen root filesystem; the thaw does without it."""
    with scene.frozen() as play:
        reload_pid_1(scene)
        seconds = scene.thaw_well(play)
    scene.vm.run("systemctl", "daemon-reload", timeout=60)
    nothing_left(scene)
    table.note("machine", "PID 1 is stuck on /", "the play", seconds, "request")


def test_pid_1_reloads_and_the_guard_is_killed(scene: Scene, table: Table):
    """PID 1 gives up its generators after 90 seconds, and only then can it thaw."""
    with scene.frozen() as play:
        reload_pid_1(scene)
        seconds = scene.vm.thawed_after("sh", "-c", KILL, seconds=RELOAD_SECONDS)
        result = scene.thaw(play)
    assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
    nothing_left(scene)
    fault = "all of the guard is killed at once, and PID 1 is stuck on /"
    table.note("machine", fault, "PID 1, when it gives up its generators", seconds)


def test_flushing(scene: Scene, table: Table):
    slow_and_dirty(scene)
    with scene.play(path=[DATA]) as play:
        wait_for(lambda: flushing(scene), PLAY_SECONDS)
        scene.vm.run("sh", "-c", KILL)
        assert LOST in scene.wait(play, "failed", "Freeze")["result"]["msg"]
        # What was killed in the middle of it goes on with the flush, and no further.
        assert scene.guard()
        assert scene.vm.not_thawed() == {}
        slow(scene, 0)
        seconds = wait_for(lambda: ended_unfrozen(scene), SOON)
        assert play.finish(PLAY_SECONDS) == 2
    nothing_left(scene)
    fault = "all of the guard is killed at once while it flushes"
    by = "nobody has to: nothing is frozen until the last of it has ended"
    table.note("machine", fault, by, seconds, NOT_SLOW)


def test_freezing(scene: Scene, table: Table):
    """PID 1 thaws behind the FIFREEZE that nobody can stop."""
    slow_and_dirty(scene)
    with scene.play(path=[DATA], flush=False, freeze_timeout=120) as play:
        wait_for(lambda: scene.vm.states()[DATA] == "freezing", PLAY_SECONDS)
        scene.vm.run("sh", "-c", KILL)
        assert LOST in scene.wait(play, "failed", "Freeze")["result"]["msg"]
        # Or its next task would thaw.
        play.kill()
        assert scene.vm.not_thawed() == {DATA: "freezing"}
        slow(scene, 0)
        seconds = scene.vm.thawed_after(seconds=SOON)
    nothing_left(scene)
    assert scene.record()["ended"]["thawed_by"] == "guard_lost"
    fault = "all of the guard is killed at once while it freezes"
    table.note("machine", fault, "PID 1", seconds, NOT_SLOW)


def guard_and_second(scene: Scene) -> list[int]:
    """The guard and its second process: those of its processes that are not its children."""
    guard = scene.record()["lease"]["guard_pid"]
    below = scene.vm.run("cat", f"/proc/{guard}/task/{guard}/children").split()
    both = [pid for pid in scene.guard() if str(pid) not in below]
    assert guard in both
    assert len(both) == 2
    return both


@pytest.mark.parametrize("asked", [False, True], ids=["not asked", "asked"])
def test_freezing_and_the_freezer_lives(scene: Scene, table: Table, asked: bool):
    """It thaws, PID 1 does, and maybe the play: each of them what the others have left."""
    slow_and_dirty(scene)
    with scene.play(flush=False, freeze_timeout=120) as play:
        wait_for(lambda: scene.vm.not_thawed() == {DATA: "freezing", "/": "frozen"}, PLAY_SECONDS)
        both = " ".join(map(str, guard_and_second(scene)))
        scene.vm.run("sh", "-c", f"pids='{both}' && {_KILL}")
        assert LOST in scene.wait(play, "failed", "Freeze")["result"]["msg"]
        if not asked:
            play.kill()
        # The kernel is not done with the other one, of which nobody holds up this one.
        wait_for(lambda: scene.vm.not_thawed() == {DATA: "freezing"}, SOON)
        assert scene.guard()
        slow(scene, 0)
        seconds = scene.vm.thawed_after(seconds=SOON)
        end = time.monotonic() + STAYS_SECONDS
        while time.monotonic() < end:
            assert scene.vm.not_thawed() == {}
        if asked:
            assert play.finish(PLAY_SECONDS) == 2
            result = play.wait("ok", "Thaw")["result"]
            assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
    nothing_left(scene)
    if not asked:
        assert scene.record()["ended"]["thawed_by"] == "guard_lost"
    fault = "guard and second process are killed at once while the freezer freezes"
    if asked:
        fault += ", and the play goes on"
    by = "the freezer, PID 1 or the play" if asked else "the freezer or PID 1"
    table.note("machine", fault, by, seconds, NOT_SLOW)


def test_thawing(scene: Scene, table: Table):
    """Killed within the FITHAW: whoever asked for the thaw is not told that all went well."""
    with scene.frozen() as play:
        slow(scene, 512)
        # The disk lets this pass, and nothing else for two minutes. It writes what is there.
        disk = "/dev/disk/by-id/virtio-data"
        scene.vm.run("dd", f"if={disk}", f"of={disk}", "bs=64k", "count=1", "oflag=direct")
        scene.let()
        wait_for(lambda: writing(scene), PLAY_SECONDS)
        scene.vm.run("sh", "-c", KILL)
        slow(scene, 0)
        seconds = scene.vm.thawed_after(seconds=SOON)
        assert play.finish(PLAY_SECONDS) == 0
        result = play.wait("ok", "Thaw")["result"]
    assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
    nothing_left(scene)
    fault = "all of the guard is killed at once while it thaws"
    table.note("machine", fault, "PID 1, or the play that asked", seconds, NOT_SLOW)
