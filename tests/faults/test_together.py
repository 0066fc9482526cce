# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays of several controllers on one host, at once and one after another."""

from __future__ import annotations

from tests.kernel.processes import wait_for

from .plays import Play
from .scene import DATA, LEASE, PROMPT, TIMEOUT, Scene
from .table import Table

REQUEST = "the guard, on request"
DEADLINE = "the guard, at its deadline"


def held_by(lease: str, message: str) -> None:
    """The message says who holds it and until when, and that nothing was done."""
    assert f"by lease '{lease}' (guard pid " in message
    assert ", until 20" in message
    assert "nothing was changed" in message


def test_the_same_paths_at_once(stage: Scene, table: Table):
    with stage.short(timeout=30, lease="one") as one, stage.short(timeout=30, lease="two") as two:
        plays: dict[str, Play] = {"one": one, "two": two}

        def settled() -> bool:
            ends = [
                play.events(end, "Freeze") for play in plays.values() for end in ("ok", "failed")
            ]
            return sum(map(len, ends)) == len(plays)

        wait_for(settled, 60)
        winners = [name for name, play in plays.items() if play.events("ok", "Freeze")]
        assert len(winners) == 1, (one.said, two.said)
        (winner,) = winners
        (loser,) = set(plays) - {winner}
        message = plays[loser].events("failed", "Freeze")[0]["result"]["msg"]
        assert f"lease '{winner}'" in message
        # That it lost has thawed nothing that is not its own.
        assert plays[loser].finish() == 2
        assert stage.frozen()
        stage.held_up()
        seconds, result = stage.request_thaw(plays[winner])
        assert (result["held"], result["thawed_by"]) == (True, "request")
        assert plays[winner].finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "two plays at once, the same filesystems"
    table.note("together", fault, f"{REQUEST} of the first", seconds, "the request")


def test_other_paths_at_once(stage: Scene, table: Table):
    with (
        stage.short(timeout=30, lease="one", path=[DATA]) as one,
        stage.short("other", timeout=30, lease="two", path=["/"]) as two,
    ):
        for play in (one, two):
            play.wait("start", "Be frozen")
        assert stage.frozen()
        stage.held_up()
        stage.let("frozen")
        result = one.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (True, "request")
        assert stage.host.frozen() == ["/"]
        stage.let("other")
        asked = two.wait("start", "Thaw")["at"]
        seconds = stage.thawed(PROMPT) - asked
        assert seconds < PROMPT
        result = two.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (True, "request")
        assert [play.finish() for play in (one, two)] == [0, 0]
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "two plays at once, other filesystems"
    table.note("together", fault, f"{REQUEST}, each its own", seconds, "the request")


def test_another_controller_meanwhile(stage: Scene, table: Table):
    with stage.short(timeout=60) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        with stage.short(lease="another") as another:
            held_by(LEASE, another.wait("failed", "Freeze")["result"]["msg"])
            result = another.wait("ok", "Thaw")["result"]
            assert not result["changed"]
            assert result["held"] is None
            assert another.finish() == 2
        assert stage.frozen()
        seconds = stage.thaw_well(play)
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "another controller, another lease, while frozen"
    table.note("together", fault, f"{REQUEST} of the first", seconds, "the request")


def test_a_guard_left_from_a_crash(stage: Scene, table: Table):
    """The next run says who holds it; after the deadline it succeeds."""
    with stage.short(timeout=3 * TIMEOUT) as crashed:
        crashed.wait("start", "Be frozen")
        stage.held_up()
        crashed.kill()
    with stage.short(lease="next") as play:
        held_by(LEASE, play.wait("failed", "Freeze")["result"]["msg"])
        assert play.finish() == 2
    assert stage.frozen()
    late = stage.thawed_by_deadline()
    stage.let("frozen")
    with stage.short(lease="next", timeout=30) as play:
        result = play.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (True, "request")
        assert play.finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "a guard left from a crash, and the next run"
    table.note("together", fault, DEADLINE, late, "deadline")


def test_a_guard_left_from_a_crash_and_the_same_lease(stage: Scene, table: Table):
    """The next run takes the lease over, as it says by ``changed: false``, and renews it."""
    with stage.short(timeout=30) as crashed:
        crashed.wait("start", "Be frozen")
        stage.held_up()
        crashed.kill()
    (deadline,) = stage.deadlines()
    with stage.short(timeout=60) as play:
        assert play.wait("ok", "Freeze")["result"]["changed"] is False
        assert stage.deadlines()[0] > deadline
        play.wait("start", "Be frozen")
        assert stage.frozen()
        seconds = stage.thaw_well(play)
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "a guard left from a crash, and the next run under the same lease"
    table.note("together", fault, REQUEST, seconds, "the request")
