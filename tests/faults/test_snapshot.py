# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot fails, hangs or comes too late, or what follows it fails."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from .plays import Play
from .scene import ON_THE_WAY, PROMPT, Scene
from .table import Table

TASKS = Path(__file__).with_name("tasks")
DEADLINE = "the host, at its deadline"
DO_NOT_TRUST = "Do not trust the snapshot"


def thawed_by_play(stage: Scene, play: Play, fault_at: float) -> float:
    """Wait for the thaw that the play asks for; return the seconds since the fault."""
    seconds = stage.thawed(PROMPT) - fault_at
    assert seconds < PROMPT
    thaw = play.wait("ok", "Thaw")["result"]
    assert thaw["thawed_by"] == "request"
    assert thaw["held"] is True
    return seconds


def thawed_for_a_task(stage: Scene, tasks: str, task: str, because: str) -> float:
    """Let this file of tasks take the snapshot, of which ``task`` fails; the seconds since then."""
    with stage.role(timeout=30, tasks=str(TASKS / tasks)) as play:
        failed_at = play.wait("failed", task)["at"]
        seconds = thawed_by_play(stage, play, failed_at)
        assert play.finish() == 2
        assert because in play.said
        assert DO_NOT_TRUST in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    return seconds


def test_fails(stage: Scene, table: Table):
    task = "Fail as an array does that has no room left"
    seconds = thawed_for_a_task(stage, "fail.yml", task, "the pool is full (rc 28)")
    table.note("snapshot", "its task fails", "the play, at once", seconds)


def test_hangs(stage: Scene, table: Table):
    with stage.role(timeout=30, provider_timeout=2) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        ended_at = play.wait("failed", "Be frozen")["at"]
        seconds = thawed_by_play(stage, play, ended_at)
        assert play.finish() == 2
        assert "Timed out after 2 second" in play.said
        assert DO_NOT_TRUST in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    by = "the play, once consistent_snapshot_provider_timeout is over"
    table.note("snapshot", "its task hangs", by, seconds, "that timeout")


def test_hangs_until_the_deadline(stage: Scene, table: Table):
    with stage.role() as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        late = stage.thawed_by_deadline()
        assert play.finish() == 2
        assert play.wait("ok", "Thaw")["result"]["thawed_by"] == "deadline"
        assert DO_NOT_TRUST in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("snapshot", "its task hangs past the deadline", DEADLINE, late, "deadline")


def test_succeeds_after_the_deadline(stage: Scene, table: Table):
    with stage.role(timeout=ON_THE_WAY) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        # Neither of the two tasks lasts as long as the freeze, but both together do.
        time.sleep(ON_THE_WAY * 0.5)
        stage.let("frozen")
        play.wait("start", "Clone the images")
        late = stage.thawed_by_deadline()
        stage.let("cloned")
        play.wait("ok", "Clone the images")
        assert play.finish() == 2
        thaw = play.wait("ok", "Thaw")["result"]
        assert (thaw["held"], thaw["thawed_by"]) == (False, "deadline")
        assert DO_NOT_TRUST in play.said
        assert "the freeze was not held (it was ended by: deadline)" in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("snapshot", "it succeeds after the deadline", DEADLINE, late, "deadline")


def test_its_storage_cannot_be_reached(stage: Scene, table: Table):
    """The task that is delegated there says that this is a failure, as docs/providers.md has it."""
    stage.variables["told"] = True
    task = "Fail, so that the host is thawed"
    seconds = thawed_for_a_task(stage, "away.yml", task, "the array cannot be reached")
    table.note("snapshot", "its storage cannot be reached", "the play, at once", seconds)


@pytest.mark.parametrize("goes_on", [False, True], ids=["", "ignore_unreachable"])
def test_its_storage_cannot_be_reached_and_no_task_says_so(
    stage: Scene, table: Table, goes_on: bool
):
    """Ansible takes the host itself for unreachable then, and runs nothing more for it."""
    stage.variables["told"] = False
    with stage.role(
        timeout=ON_THE_WAY, tasks=str(TASKS / "away.yml"), play={"ignore_unreachable": goes_on}
    ) as play:
        play.wait("unreachable", "Ask the array, and go on if it cannot be reached")
        stage.held_up()
        late = stage.thawed_by_deadline()
        assert play.finish() == 4
        assert not play.events("start", "Thaw")
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "its storage cannot be reached, and no task says so"
    if goes_on:
        fault += " (ignore_unreachable)"
    table.note("snapshot", fault, DEADLINE, late, "deadline")


def test_the_play_ignores_errors(stage: Scene, table: Table):
    with stage.role(play={"ignore_errors": True}) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        late = stage.thawed_by_deadline()
        assert play.finish() == 0
        result = play.wait("ok", "Set the result")["result"]["ansible_facts"]
        result = result["consistent_snapshot_result"]
        assert (result["held"], result["trusted"]) == (False, False)
        assert DO_NOT_TRUST in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    table.note(
        "snapshot",
        "it outlasts the deadline, in a play that ignores errors",
        DEADLINE,
        late,
        "deadline",
    )


def test_what_follows_it_fails(stage: Scene, table: Table):
    stage.let("frozen", "cloned")
    with stage.role(timeout=30, after=str(TASKS / "fail.yml")) as play:
        asked_at = play.wait("start", "Thaw")["at"]
        seconds = thawed_by_play(stage, play, asked_at)
        assert play.finish() == 2
        assert "the pool is full (rc 28)" in play.said
        assert "itself is good; it is the tasks after it that failed" in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("snapshot", "the tasks after it fail", "the play", seconds, "request")


@pytest.mark.parametrize("also", ["the snapshot is good", "the snapshot failed"])
def test_the_thaw_itself_fails(stage: Scene, table: Table, also: str):
    """The Python of the host is gone: no module, and nothing else, gets through to the guard."""
    python = stage.host.outside("/dev/shm/python")
    shutil.copy(stage.host.outside("/usr/bin/python3").resolve(), python)
    tasks: dict[str, Any] = {}
    if also == "the snapshot failed":
        tasks = {"provider_timeout": 1}
    else:
        stage.let("cloned")
    stage.variables["ansible_python_interpreter"] = "/dev/shm/python"
    with stage.role(**tasks) as play:
        play.wait("start", "Be frozen")
        python.unlink()
        stage.held_up()
        if not tasks:
            stage.let("frozen")
        late = stage.thawed_by_deadline()
        assert play.finish() == 2
        play.wait("failed", "Thaw")
        assert DO_NOT_TRUST in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("snapshot", f"the thaw itself fails ({also})", DEADLINE, late, "deadline")
