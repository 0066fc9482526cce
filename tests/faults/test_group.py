# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are frozen together: all of them at one time, or none gets a snapshot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import Lab
from tests.kernel.processes import wait_for

from .plays import Play, playing
from .scene import DATA, PATHS, Scene, nothing_is_left, three_hosts
from .table import Table

TIMEOUT = 30
SECONDS = 180
# What stands for the storage: it notes when it was asked for a snapshot, by the controller's clock.
TASK = """\
- name: Take it
  ansible.builtin.shell:
    cmd: >-
      date +%s.%N >"{{ taken }}.new" && mv "{{ taken }}.new" "{{ taken }}"
      && sleep {{ stay | default(0) }}
  vars:
    taken: "FOLDER/{{ inventory_hostname }}.taken"
  delegate_to: localhost
  changed_when: true
"""


class Group:
    """Some hosts, and plays that take a snapshot of all of them at once."""

    def __init__(self, scenes: list[Scene], folder: Path) -> None:
        self.scenes = scenes
        self.hosts = [each.host for each in scenes]
        self.folder = folder
        self._tasks = folder / "take.yml"
        self._tasks.write_text(TASK.replace("FOLDER", str(folder)))

    @contextlib.contextmanager
    def play(self, **variables: Any) -> Iterator[Play]:
        """Run the role, and write down what came of it."""
        options = {
            "consistent_snapshot_paths": list(PATHS),
            "consistent_snapshot_name": "together",
            "consistent_snapshot_tasks": str(self._tasks),
            "consistent_snapshot_timeout": TIMEOUT,
            "consistent_snapshot_group": True,
            # Machines that are busy with other tests answer late.
            "consistent_snapshot_clock_uncertainty": 2,
            **variables,
        }
        role = {"ansible.builtin.include_role": {"name": "quiesce.storage.consistent_snapshot"}}
        told = {
            "ansible.builtin.copy": {
                "content": "{{ consistent_snapshot_result | to_json }}",
                "dest": f"{self.folder}/{{{{ inventory_hostname }}}}.json",
                "mode": "0600",
            },
            "delegate_to": "localhost",
        }
        block = {"block": [{"name": "Run the role", **role, "vars": options}], "always": [told]}
        play = {"hosts": "all", "gather_facts": False, "tasks": [block]}
        hosts = {host.name: host.variables() for host in self.hosts}
        with playing(self.folder / "play", hosts, [play]) as running:
            yield running

    def results(self) -> list[dict[str, Any]]:
        """What came of it on each host."""
        return [json.loads((self.folder / f"{host.name}.json").read_text()) for host in self.hosts]

    def taken(self) -> list[float]:
        """When snapshots were taken."""
        return [float(path.read_text()) for path in self.folder.glob("*.taken")]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@pytest.fixture
def group(lab: Lab, tmp_path: Path, turn: int) -> Iterator[Group]:
    with three_hosts(lab, tmp_path) as scenes:
        yield Group(scenes, tmp_path)


def test_all_goes_well(group: Group, table: Table):
    with group.play(stay=0.3) as play:
        assert play.finish(SECONDS) == 0, play.said
    results = group.results()
    assert [result["held"] for result in results] == [True] * 3
    assert [result["trusted"] for result in results] == [True] * 3
    (one,) = {json.dumps(result["group"], sort_keys=True) for result in results}
    together = json.loads(one)
    assert together["proven"] is True
    assert together["hosts"] == [host.name for host in group.hosts]
    assert together["spread_seconds"] <= together["spread_uncertainty"] + 1
    began, ended = seconds(together["from"]), seconds(together["until"])
    assert together["seconds"] == pytest.approx(ended - began, abs=0.001)
    assert len(group.taken()) == 3
    assert all(began <= taken <= ended for taken in group.taken())
    nothing_is_left(group.scenes)
    longest = max(result["frozen_seconds"] for result in results)
    table.note("group", "none: all goes well", "the play", longest, "the first freeze")


def no_snapshot(group: Group, play: Play, why: str) -> None:
    """Every host says so, and says why."""
    assert play.finish(SECONDS) != 0
    assert group.taken() == []
    for result in group.results():
        assert result["trusted"] is False
        assert result["snapshots"] == []
    assert why in " ".join(failure for each in group.results() for failure in each["failures"])


def test_one_is_frozen_already(group: Group, table: Table):
    began = time.monotonic()
    group.hosts[1].freeze(DATA, SECONDS)
    with group.play() as play:
        assert play.finish(SECONDS) != 0
        assert group.taken() == []
        assert [host.frozen() for host in group.hosts] == [[], [DATA], []]
    group.hosts[1].thaw()
    assert "frozen already" in str(group.results()[1]["failures"])
    assert "without it no snapshot is of one instant" in str(group.results()[0]["failures"])
    nothing_is_left(group.scenes)
    seconds_taken = time.monotonic() - began
    by = "nobody has to"
    table.note("group", "one host is frozen already", by, seconds_taken, "start of the play")


def all_frozen(scenes: list[Scene]) -> list[float]:
    """Wait until these hosts are frozen; return the deadline of each."""
    wait_for(lambda: all(scene.frozen() for scene in scenes), 60)
    for scene in scenes:
        scene.held_up()
    return [max(scene.deadlines()) for scene in scenes]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_guard_is_lost_while_armed(group: Group, table: Table, number: int):
    first, lost, last = group.scenes
    with group.play(consistent_snapshot_group_lead=10) as play:
        play.wait("start", "Let the time come")
        pid = lost.guard()[0]
        os.kill(pid, number)
        try:
            deadlines = all_frozen([first, last])
            frozen_at = time.monotonic()
            assert lost.is_thawed()
            # The play hears of it once it asks, and waits for a guard that is stopped.
            wait_for(lambda: first.is_thawed() and last.is_thawed(), TIMEOUT + 10)
            seconds_frozen = time.monotonic() - frozen_at
            assert time.time() < min(deadlines)
            no_snapshot(group, play, "no snapshot is of one instant")
            for scene in (first, last):
                result = play.wait("ok", "Thaw", scene.host.name)["result"]
                assert (result["held"], result["thawed_by"]) == (True, "request")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        nothing_is_left(group.scenes)
    how = "killed" if number == signal.SIGKILL else "stopped"
    fault = f"a guard is {how} while armed"
    table.note("group", fault, "the play, on all others", seconds_frozen, "the freeze of these")


def test_one_is_thawed_by_hand(group: Group, table: Table):
    with group.play(stay=8) as play:
        play.wait("start", "Take it")
        all_frozen(group.scenes)
        group.hosts[1].run("fsfreeze", "-u", DATA)
        thawed_at = time.monotonic()
        assert play.finish(SECONDS) != 0
    for result in group.results():
        assert result["trusted"] is False
        assert result["group"]["proven"] is False
    assert [result["held"] for result in group.results()] == [True, False, True]
    nothing_is_left(group.scenes)
    by = "the hand; the play, on all others"
    table.note("group", "one host is thawed by hand", by, time.monotonic() - thawed_at)


def test_controller_killed_while_armed(group: Group, table: Table):
    with group.play(consistent_snapshot_group_lead=15) as play:
        play.wait("start", "Let the time come")
        play.kill()
    deadlines = all_frozen(group.scenes)
    late = max(map(Scene.thawed_by_deadline, group.scenes, deadlines))
    nothing_is_left(group.scenes)
    assert group.taken() == []
    table.note(
        "group", "controller killed while armed", "the hosts, at their deadline", late, "deadline"
    )


@pytest.mark.parametrize(("ahead", "refused"), [(0.5, False), (30, True)])
def test_a_clock_that_is_ahead(group: Group, table: Table, ahead: float, refused: bool):
    # There are no namespaces for this clock, so it is the answer that is ahead.
    fake = group.hosts[1].outside("/usr/local/bin/date")
    fake.write_text(f"#!/bin/sh\nexec /bin/date -d '+{ahead} seconds' \"$@\"\n")
    fake.chmod(0o755)
    # Well above what a busy machine takes to answer.
    limits = {"consistent_snapshot_clock_offset": 10, "consistent_snapshot_clock_uncertainty": 20}
    with group.play(**limits) as play:
        if refused:
            no_snapshot(group, play, "from the controller's")
        else:
            assert play.finish(SECONDS) == 0, play.said
            assert all(result["group"]["proven"] for result in group.results())
    nothing_is_left(group.scenes)
    by = "nobody has to: nothing was frozen" if refused else "the play"
    fault = f"the clock of a host is {ahead} s ahead"
    table.note("group", fault, by, play.seconds, "start of the play")
