# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard is killed or stopped, alone and with those that watch it, at each stage of a play.

The host has no systemd, so that nobody else is there to thaw.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.kernel.processes import children, kill_together, wait_for

from .plays import Play
from .scene import DATA, LATE, LEASE, LIFTED, PATHS, SOON, Scene, in_calls
from .table import Table

NOBODY = "nobody has to: nothing was frozen"
SECOND = "the second process"
LOST = "the guard was killed while it froze"
# The second process alone has rows of its own.
VICTIMS: dict[str, Callable[[Scene], list[int]]] = {
    "guard": lambda stage: [stage.guard()[0]],
    "guard and second process": lambda stage: [*stage.guard()[:2]],
    "all": lambda stage: stage.guards(),
}
victims = pytest.mark.parametrize("who", VICTIMS)


def flushing(stage: Scene) -> None:
    """Wait until the guard has all of its processes, and flushes."""

    def seen() -> bool:
        guards = stage.guards()
        with contextlib.suppress(FileNotFoundError):
            return len(guards) == 4 and any(len(children(pid)) == 2 for pid in guards)
        return False

    wait_for(seen, 30)
    assert stage.is_thawed()


def freezing(stage: Scene) -> None:
    """Wait until the first filesystem is frozen and the second about to be."""
    stage.wait_until("freezing")
    stage.wait_until("frozen", "/")


def in_order(stage: Scene) -> list[str]:
    """The paths so that the one on slow storage is the last."""
    return sorted(PATHS, key=lambda path: path == DATA)


def released(stage: Scene) -> float:
    """Wait until the kernel has done with the slow freeze; return how long it stayed frozen."""
    wait_for(lambda: stage.host.states()[DATA] != "freezing", 30)
    began = time.monotonic()
    return stage.thawed(10) - began


# --- Killed --------------------------------------------------------------------------------


@victims
def test_killed_while_flushing(stage: Scene, table: Table, who: str):
    with stage.slow(), stage.short() as play:
        flushing(stage)
        kill_together(VICTIMS[who](stage))
        killed_at = time.monotonic()
        failed = play.wait("failed", "Freeze")
        assert LOST in failed["result"]["msg"]
        assert play.finish() == 2
        # What was killed in the middle of it goes on with the flush, and no further.
        while stage.guards():
            assert stage.is_thawed()
    assert stage.is_thawed()
    stage.nothing_lost()
    seconds = failed["at"] - killed_at
    table.note("guard", f"{who} killed while flushing", NOBODY, seconds)


def test_guard_killed_while_freezing(stage: Scene, table: Table):
    with stage.slow(), stage.short(path=in_order(stage), flush=False, timeout=30) as play:
        freezing(stage)
        os.kill(stage.guard()[0], signal.SIGKILL)
        killed_at = time.monotonic()
        seconds = stage.wait_until("thawed", "/", SOON) - killed_at
        assert LOST in play.wait("failed", "Freeze")["result"]["msg"]
        assert released(stage) < SOON
        assert play.finish() == 2
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("guard", "guard killed while freezing", SECOND, seconds)


def test_guard_and_second_process_killed_while_freezing(stage: Scene, table: Table):
    """The freezer, whose call nothing can interrupt, thaws what is frozen, and then that."""
    with stage.slow(), stage.short(path=in_order(stage), flush=False, timeout=30) as play:
        freezing(stage)
        kill_together(stage.guard()[:2])
        killed_at = time.monotonic()
        seconds = stage.wait_until("thawed", "/", SOON) - killed_at
        assert stage.host.states()[DATA] == "freezing"
        assert LOST in play.wait("failed", "Freeze")["result"]["msg"]
        assert released(stage) < SOON
        assert play.finish() == 2
    stage.no_guard_left()
    assert stage.is_thawed()
    (record,) = stage.records()
    assert (record["ended"]["held"], record["ended"]["thawed_by"]) == (False, "guard_lost")
    stage.nothing_lost()
    fault = "guard and second process killed while freezing"
    table.note("guard", fault, "the freezer; the slow one when the kernel is done", seconds)


def test_guard_killed_while_frozen(stage: Scene, table: Table):
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        os.kill(stage.guard()[0], signal.SIGKILL)
        killed_at = time.monotonic()
        seconds = stage.thawed(SOON) - killed_at
        stage.let("frozen")
        result = play.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
        assert not result["changed"]
        assert play.finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("guard", "guard killed while frozen", SECOND, seconds)


@victims
def test_killed_while_thawing(stage: Scene, table: Table, who: str):
    """The kernel completes what was begun, and nobody is there to say that all went well."""
    with stage.short(timeout=60) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        chosen = VICTIMS[who](stage)
        with stage.thawing():
            kill_together(chosen)
        seconds = stage.thawed_soon()
        result = play.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
        assert play.finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    by = "the kernel, which had been asked to"
    table.note("guard", f"{who} killed while thawing", by, seconds, LIFTED)


# --- All killed, and nobody is left to thaw --------------------------------------------------


def left_frozen(stage: Scene) -> float:
    """Find all frozen past the deadline, and thaw by the playbook; return how long that took."""
    wait_for(lambda: time.time() > max(stage.deadlines()) + LATE, 30)
    assert stage.frozen()
    began = time.monotonic()
    with stage.break_glass(*PATHS) as thaw:
        seconds = stage.thawed(60) - began
        assert thaw.finish() == 0
        assert f"held by lease {LEASE} since" in thaw.said
        assert "its guard is dead" in thaw.said
    return seconds


BREAK_GLASS = "the playbook thaw; without it nobody would"


def test_all_killed_while_freezing(stage: Scene, table: Table):
    with stage.short(path=in_order(stage), flush=False) as play:
        with stage.slow():
            freezing(stage)
            play.kill()
            kill_together(stage.guards())
            stage.wait_until("frozen")
        seconds = left_frozen(stage)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("guard", "all killed while freezing", BREAK_GLASS, seconds, "the playbook's start")


def test_all_killed_while_frozen(stage: Scene, table: Table):
    with stage.short() as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        play.kill()
        kill_together(stage.guards())
        seconds = left_frozen(stage)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("guard", "all killed while frozen", BREAK_GLASS, seconds, "the playbook's start")


def test_all_killed_and_the_play_goes_on(stage: Scene, table: Table):
    """It thaws in the place of the guard, and says so."""
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        kill_together(stage.guards())
        seconds, result = stage.request_thaw(play)
        assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
        assert result["changed"]
        assert "its guard is dead" in play.said
        assert play.finish() == 0
    stage.nothing_lost()
    fault = "all killed while frozen, and the play goes on"
    table.note("guard", fault, "the request", seconds, "the request")


# --- Stopped -------------------------------------------------------------------------------


def test_guard_stopped_while_flushing(stage: Scene, table: Table):
    """No deadline runs yet, and nothing is frozen before the guard goes on."""
    with stage.slow(), stage.short(timeout=30) as play:
        flushing(stage)
        guard = stage.guard()[0]
        os.kill(guard, signal.SIGSTOP)
        try:
            wait_for(lambda: not any(map(in_calls, children(guard))), 30)
            # That nothing comes after it can only be looked at for a while.
            end = time.monotonic() + 1
            while time.monotonic() < end:
                assert stage.is_thawed()
        finally:
            os.kill(guard, signal.SIGCONT)
        play.wait("start", "Be frozen")
        assert stage.frozen()
        seconds = stage.thaw_well(play)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("guard", "guard stopped while flushing", "the request", seconds, "the request")


def test_guard_stopped_while_freezing(stage: Scene, table: Table):
    options: dict[str, Any] = {"path": in_order(stage), "flush": False, "timeout": 3}
    with stage.slow(dirty_mib=20), stage.short(**options) as play:
        freezing(stage)
        guard = stage.guard()[0]
        os.kill(guard, signal.SIGSTOP)
        try:
            (deadline,) = stage.deadlines()
            stage.wait_until("frozen", "/")
            stage.wait_until("thawed", "/")
            late = time.time() - deadline
            assert 0 <= late < LATE
            assert released(stage) < SOON
        finally:
            os.kill(guard, signal.SIGCONT)
        stage.let("frozen")
        assert "deadline" in play.wait("failed", "Freeze")["result"]["msg"]
        assert play.finish() == 2
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("guard", "guard stopped while freezing", SECOND, late, "deadline")


def test_guard_stopped_while_frozen(stage: Scene, table: Table):
    with stage.short() as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        guard = stage.guard()[0]
        os.kill(guard, signal.SIGSTOP)
        try:
            assert stage.frozen()
            late = stage.thawed_by_deadline()
        finally:
            os.kill(guard, signal.SIGCONT)
        stage.let("frozen")
        result = play.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (False, "deadline")
        assert play.finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("guard", "guard stopped while frozen", SECOND, late, "deadline")


def test_guard_stopped_while_thawing(stage: Scene, table: Table):
    """Whoever asked for the thaw gets no answer, looks at the kernel, and trusts nothing."""
    with stage.short(timeout=60) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        guard = stage.guard()[0]
        try:
            with stage.thawing():
                os.kill(guard, signal.SIGSTOP)
            seconds = stage.thawed_soon()
            result = play.wait("ok", "Thaw")["result"]
            assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
            assert "which does not answer" in play.said
            assert stage.guards()
        finally:
            os.kill(guard, signal.SIGCONT)
        assert play.finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    by = "the kernel, which had been asked to"
    table.note("guard", "guard stopped while thawing", by, seconds, LIFTED)


# --- The second process --------------------------------------------------------------------


def replaced(stage: Scene, second: int) -> None:
    """Kill the second process, and wait for another one."""
    os.kill(second, signal.SIGKILL)

    def another() -> bool:
        with contextlib.suppress(OSError, ValueError):
            return stage.guard()[1] != second
        return False

    wait_for(another, 10)


def went_well(stage: Scene, play: Play) -> float:
    """The play goes on as if nothing had happened; return how long its thaw took."""
    play.wait("start", "Be frozen")
    assert stage.frozen()
    seconds = stage.thaw_well(play)
    stage.no_guard_left()
    stage.nothing_lost()
    return seconds


@pytest.mark.parametrize("when", ["flushing", "freezing"])
def test_second_process_killed(stage: Scene, table: Table, when: str):
    options: dict[str, Any] = {"path": in_order(stage), "flush": when == "flushing", "timeout": 30}
    with stage.slow(), stage.short(**options) as play:
        (flushing if when == "flushing" else freezing)(stage)
        replaced(stage, stage.guard()[1])
        seconds = went_well(stage, play)
    fault = f"second process killed while {when}"
    table.note("guard", fault, "the request", seconds, "the request")


def test_second_process_killed_while_frozen(stage: Scene, table: Table):
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        replaced(stage, stage.guard()[1])
        seconds = went_well(stage, play)
    fault = "second process killed while frozen"
    table.note("guard", fault, "the request", seconds, "the request")


def test_second_process_killed_while_thawing(stage: Scene, table: Table):
    with stage.short(timeout=60) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        second = stage.guard()[1]
        with stage.thawing():
            os.kill(second, signal.SIGKILL)
        seconds = stage.thawed_soon()
        result = play.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (True, "request")
        assert play.finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("guard", "second process killed while thawing", "the request", seconds, LIFTED)
