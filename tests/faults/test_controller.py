# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed, or interrupted by Ctrl-C. The host thaws by itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from .plays import Play
from .scene import TIMEOUT, Scene
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
        sample = stage.written()
        deadline = max(stage.deadlines())
        ENDS[how](play)
        stage.wait_until("frozen")
        late = stage.thawed_by_deadline(deadline, early=how == "Ctrl-C")
        finished(play, how)
    stage.no_guard_left()
    stage.nothing_lost(sample)
    table.note(
        "controller", f"{how} before the freeze returns", DEADLINE[how], max(0.0, late), "deadline"
    )


@ends
def test_while_frozen(stage: Scene, table: Table, how: str):
    with stage.role() as play:
        play.wait("start", "Be frozen")
        assert set(stage.host.frozen()) == set(stage.host.paths)
        sample = stage.written()
        deadline = max(stage.deadlines())
        ENDS[how](play)
        late = stage.thawed_by_deadline(deadline, early=how == "Ctrl-C")
        finished(play, how)
    stage.no_guard_left()
    stage.nothing_lost(sample)
    table.note("controller", f"{how} while frozen", DEADLINE[how], max(0.0, late), "deadline")


@ends
def test_while_the_snapshot_is_taken(stage: Scene, table: Table, how: str):
    stage.let("frozen")
    with stage.role() as play:
        play.wait("start", "Clone the images")
        sample = stage.written()
        deadline = max(stage.deadlines())
        ENDS[how](play)
        late = stage.thawed_by_deadline(deadline, early=how == "Ctrl-C")
        finished(play, how)
    stage.no_guard_left()
    stage.nothing_lost(sample)
    table.note(
        "controller",
        f"{how} while the snapshot is taken",
        DEADLINE[how],
        max(0.0, late),
        "deadline",
    )


@ends
def test_while_it_thaws(stage: Scene, table: Table, how: str, turn: int):
    stage.let("frozen", "cloned")
    with stage.role() as play:
        play.wait("start", "Thaw")
        # Somewhere between the beginning of the task and its end.
        time.sleep(turn % 10 * 0.06)
        sample = stage.written()
        ENDS[how](play)
        killed_at = time.monotonic()
        seconds = stage.thawed(TIMEOUT) - killed_at
        # A Ctrl-C that comes when all is done is too late to be heard.
        if end_of(play, how) or how != "Ctrl-C":
            finished(play, how)
    stage.no_guard_left()
    stage.nothing_lost(sample)
    by = "the request, or the host at its deadline"
    table.note("controller", f"{how} while it thaws", by, max(0.0, seconds))
