# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed, or interrupted by Ctrl-C. The host thaws by itself."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from .plays import Play
from .scene import LIFTED, ON_THE_WAY, Scene
from .table import Table

ENDS: dict[str, Callable[[Play], None]] = {"killed": Play.kill, "Ctrl-C": Play.interrupt}
DEADLINE = {
    "killed": "the host, at its deadline",
    "Ctrl-C": "the play if it still can, else the host at its deadline",
}
ends = pytest.mark.parametrize("how", ENDS)


# What a play says that was interrupted.
INTERRUPTED = (
    "interrupted",
    # It may reach a command that takes the snapshot first, whose failure then is told.
    "Do not trust the snapshot",
    # As ansible-core 2.19 looks at a worker that it has just closed.
    "process object is closed",
)
# A worker that is interrupted as it reports leaves the lock of its queue taken, and ansible-core
# 2.19 waits for that without end. Whoever sits there presses Ctrl-C once more.
AGAIN_SECONDS = 30.0


def end_of(play: Play, how: str) -> int:
    """The exit status of a play that was killed or interrupted."""
    if how != "Ctrl-C":
        return play.finish()
    try:
        return play.finish(AGAIN_SECONDS)
    except AssertionError:
        play.interrupt()
        return play.finish(AGAIN_SECONDS)


def finished(play: Play, how: str) -> None:
    """The controller has ended, and not well."""
    status = end_of(play, how)
    assert status != 0
    if how == "Ctrl-C":
        told = any(sentence in play.said for sentence in INTERRUPTED)
        assert told or status == -signal.SIGINT, play.said


@ends
def test_before_the_freeze_returns(stage: Scene, table: Table, how: str):
    with stage.slow(), stage.role(flush=False, timeout=8) as play:
        stage.wait_until("freezing")
        deadline = max(stage.deadlines())
        ENDS[how](play)
        stage.wait_until("frozen")
        late = stage.thawed_by_deadline(deadline, early=how == "Ctrl-C")
        finished(play, how)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note(
        "controller", f"{how} before the freeze returns", DEADLINE[how], max(0.0, late), "deadline"
    )


@ends
def test_while_frozen(stage: Scene, table: Table, how: str):
    with stage.role() as play:
        play.wait("start", "Be frozen")
        assert stage.frozen()
        stage.held_up()
        deadline = max(stage.deadlines())
        ENDS[how](play)
        late = stage.thawed_by_deadline(deadline, early=how == "Ctrl-C")
        finished(play, how)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("controller", f"{how} while frozen", DEADLINE[how], max(0.0, late), "deadline")


@ends
def test_while_the_snapshot_is_taken(stage: Scene, table: Table, how: str):
    stage.let("frozen")
    with stage.role(timeout=ON_THE_WAY) as play:
        play.wait("start", "Clone the images")
        stage.held_up()
        deadline = max(stage.deadlines())
        ENDS[how](play)
        late = stage.thawed_by_deadline(deadline, early=how == "Ctrl-C")
        finished(play, how)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note(
        "controller",
        f"{how} while the snapshot is taken",
        DEADLINE[how],
        max(0.0, late),
        "deadline",
    )


@ends
def test_while_it_thaws(stage: Scene, table: Table, how: str):
    with stage.role(timeout=60) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        stage.cloned(play)
        with stage.thawing():
            ENDS[how](play)
            finished(play, how)
        seconds = stage.thawed_soon()
    stage.no_guard_left()
    # A deadline, or the loss of the guard, would have left one.
    assert stage.records() == []
    stage.nothing_lost()
    by = "the request, which the guard has"
    table.note("controller", f"{how} while it thaws", by, seconds, LIFTED)
