# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network is cut at each stage of a run, for good or for a while."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.kernel.processes import command, kill_together, wait_for

from .scene import LIFTED, ON_THE_WAY, PROMPT, TIMEOUT, Scene
from .table import Table

DEADLINE = "the host, at its deadline"
REQUEST = "the request, which the guard has"
# Freeze, flush and thaw of a connection that is dead end after this at the latest.
ENDS = 120


def end_connections(stage: Scene) -> None:
    """Kill what serves the connections that there are; the host itself stays."""
    connections = [pid for pid in stage.processes() if "sshd: " in command(pid)]
    kill_together(pid for pid in connections if pid != stage.host.init)


def test_cut_before_the_freeze_returns(stage: Scene, table: Table):
    with (
        stage.slow(),
        stage.role(
            flush=False, timeout=8, freeze_timeout=10, flush_timeout=1, network_timeout=3
        ) as play,
    ):
        stage.wait_until("freezing")
        stage.host.cut()
        stage.wait_until("frozen")
        late = stage.thawed_by_deadline()
        assert play.finish(ENDS) != 0
        play.wait("failed", "Freeze")
        assert not play.events("start", "Clone the images")
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("network", "cut before the freeze returns", DEADLINE, late, "deadline")


def test_cut_and_back_before_the_freeze_returns(stage: Scene, table: Table):
    stage.let("frozen", "cloned")
    with stage.slow(), stage.role(flush=False, timeout=20) as play:
        stage.wait_until("freezing")
        stage.host.cut()
        stage.wait_until("frozen")
        time.sleep(0.5)
        stage.host.mend()
        assert play.finish(ENDS) == 0, play.said
        thaw = play.wait("ok", "Thaw")
        assert thaw["result"]["held"] is True
        assert thaw["result"]["thawed_by"] == "request"
    stage.thawed(1)
    stage.nothing_lost()
    seconds = thaw["at"] - play.wait("start", "Thaw")["at"]
    table.note(
        "network", "cut and back before the freeze returns", "the request", seconds, "request"
    )


def test_lost_while_it_freezes_and_ignored(stage: Scene, table: Table):
    """The host can be reached again at once, and nobody knows what came of the freeze."""
    with (
        stage.slow(),
        stage.role(flush=False, timeout=60, play={"ignore_unreachable": True}) as play,
    ):
        stage.wait_until("freezing")
        end_connections(stage)
        play.wait("unreachable", "Freeze")
        asked = play.wait("start", "Thaw")["at"]
        seconds = max(0.0, stage.thawed(30) - asked)
        assert seconds < PROMPT
        result = play.wait("ok", "Thaw")["result"]
        # It was not whole yet, so there was nothing to hold.
        assert (result["held"], result["thawed_by"]) == (False, "request")
        assert play.finish(ENDS) == 2, play.said
        assert not play.events("start", "Clone the images")
        assert "Do not trust the snapshot" in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "the connection ends before the freeze returns (ignore_unreachable)"
    table.note("network", fault, "the request", seconds, "request")


def test_cut_while_frozen(stage: Scene, table: Table):
    with stage.role(network_timeout=3) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        stage.host.cut()
        late = stage.thawed_by_deadline()
        stage.let("frozen", "cloned")
        assert play.finish(ENDS) != 0
        assert not play.events("ok", "Thaw")
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("network", "cut while frozen", DEADLINE, late, "deadline")


def test_cut_while_frozen_and_back_after_the_deadline(stage: Scene, table: Table):
    with stage.role(timeout=TIMEOUT, provider_timeout=0) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        stage.host.cut()
        late = stage.thawed_by_deadline()
        stage.host.mend()
        stage.let("frozen", "cloned")
        assert play.finish(ENDS) == 2, play.said
        thaw = play.wait("ok", "Thaw")["result"]
        assert thaw["held"] is False
        assert thaw["thawed_by"] == "deadline"
        assert "Do not trust the snapshot" in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("network", "cut while frozen, back after the deadline", DEADLINE, late, "deadline")


def test_cut_while_frozen_and_back_in_time(stage: Scene, table: Table):
    with stage.role(timeout=20) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        stage.host.cut()
        time.sleep(1)
        stage.let("frozen", "cloned")
        start = play.wait("start", "Thaw")["at"]
        time.sleep(0.5)
        stage.host.mend()
        assert play.finish(ENDS) == 0, play.said
        thaw = play.wait("ok", "Thaw")
        assert thaw["result"]["held"] is True
    stage.thawed(1)
    stage.nothing_lost()
    table.note(
        "network", "cut while frozen, back in time", "the request", thaw["at"] - start, "request"
    )


def test_cut_while_the_snapshot_is_taken(stage: Scene, table: Table):
    stage.let("frozen")
    with stage.role(timeout=ON_THE_WAY, network_timeout=3) as play:
        play.wait("start", "Clone the images")
        stage.held_up()
        stage.host.cut()
        stage.let("cloned")
        late = stage.thawed_by_deadline()
        assert play.finish(ENDS) != 0
        play.wait("failed", "Thaw")
        assert "Do not trust the snapshot" in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("network", "cut while the snapshot is taken", DEADLINE, late, "deadline")


def test_cut_while_the_snapshot_is_taken_and_back_in_time(stage: Scene, table: Table):
    with stage.role(timeout=60, provider_timeout=0) as play:
        stage.cloned(play)
        stage.held_up()
        stage.host.cut()
        stage.let("cloned")
        start = play.wait("start", "Thaw")["at"]
        assert stage.frozen()
        stage.host.mend()
        assert play.finish(ENDS) == 0, play.said
        thaw = play.wait("ok", "Thaw")
        assert (thaw["result"]["held"], thaw["result"]["thawed_by"]) == (True, "request")
    stage.thawed(1)
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "cut while the snapshot is taken, back in time"
    table.note("network", fault, "the request", thaw["at"] - start, "request")


def test_cut_while_the_snapshot_is_taken_and_back_after_the_deadline(stage: Scene, table: Table):
    with stage.role(timeout=ON_THE_WAY, provider_timeout=0) as play:
        stage.let("frozen")
        play.wait("start", "Clone the images")
        stage.held_up()
        stage.host.cut()
        late = stage.thawed_by_deadline()
        stage.host.mend()
        stage.let("cloned")
        assert play.finish(ENDS) == 2, play.said
        thaw = play.wait("ok", "Thaw")["result"]
        assert (thaw["held"], thaw["thawed_by"]) == (False, "deadline")
        assert "Do not trust the snapshot" in play.said
    stage.no_guard_left()
    stage.nothing_lost()
    fault = "cut while the snapshot is taken, back after the deadline"
    table.note("network", fault, DEADLINE, late, "deadline")


def test_cut_while_it_thaws(stage: Scene, table: Table):
    """The guard has the request, and thaws; nobody is told so."""
    with stage.role(timeout=30, network_timeout=3) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        stage.cloned(play)
        with stage.thawing():
            stage.host.cut()
        seconds = stage.thawed_soon()
        assert play.finish(ENDS) != 0, play.said
        assert not play.events("ok", "Thaw")
    stage.no_guard_left()
    assert stage.records() == []
    stage.nothing_lost()
    table.note("network", "cut while it thaws", REQUEST, seconds, LIFTED)


@pytest.mark.parametrize(("timeout", "back"), [(60, "in time"), (30, "after the deadline")])
def test_cut_while_it_thaws_and_back(stage: Scene, table: Table, timeout: int, back: str):
    """The answer waits for the network: it was held, and thawed as asked, whenever that comes."""
    with stage.role(timeout=timeout) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        stage.cloned(play)
        (deadline,) = stage.deadlines()
        with stage.thawing():
            stage.host.cut()
        seconds = stage.thawed_soon()
        assert not play.events("ok", "Thaw")
        if back == "after the deadline":
            assert time.time() < deadline
            wait_for(lambda: time.time() > deadline, timeout)
        stage.host.mend()
        assert play.finish(ENDS) == 0, play.said
        thaw = play.wait("ok", "Thaw")["result"]
        assert (thaw["held"], thaw["thawed_by"]) == (True, "request")
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("network", f"cut while it thaws, back {back}", REQUEST, seconds, LIFTED)


def test_ssh_daemon_stopped(stage: Scene, table: Table):
    """It answers nobody any more, and the connections that there were are gone."""
    with stage.role(network_timeout=3) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        os.kill(stage.host.init, signal.SIGSTOP)
        try:
            end_connections(stage)
            stage.let("frozen", "cloned")
            late = stage.thawed_by_deadline()
            assert play.finish(ENDS) != 0
            assert not play.events("ok", "Thaw")
        finally:
            os.kill(stage.host.init, signal.SIGCONT)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("network", "ssh daemon stopped while frozen", DEADLINE, late, "deadline")
