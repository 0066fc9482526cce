# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of a fleet is lost, under each of Ansible's ways to go on or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import Host
from tests.kernel.lab import Lab

from .plays import Play, playing
from .scene import PATHS, PROMPT, Scene, nothing_is_left, three_hosts
from .table import Table

# Long enough for the slowest of the others, which wait for the lost one in some of the ways.
TIMEOUT = 25
WAYS: dict[str, dict[str, Any]] = {
    "linear": {},
    "free": {"strategy": "ansible.builtin.free"},
    "host_pinned": {"strategy": "ansible.builtin.host_pinned"},
    "serial": {"serial": 1},
    "any_errors_fatal": {"any_errors_fatal": True},
    "max_fail_percentage": {"max_fail_percentage": 0},
    "ignore_unreachable": {"ignore_unreachable": True},
}
# A dead connection is noticed within seconds, as a fleet should be set up.
SETTINGS = {
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s "
    "-o ServerAliveInterval=1 -o ServerAliveCountMax=2",
    "ANSIBLE_TIMEOUT": "3",
}
# It fails where the file has something in it.
STAY = 'until [ -e "$0" ]; do sleep 0.05; done; [ ! -s "$0" ]'
SECONDS = 240


class Fleet:
    """Three hosts, of which the second will be lost."""

    def __init__(self, scenes: list[Scene], folder: Path) -> None:
        self.scenes = scenes
        self.hosts = [each.host for each in scenes]
        self.first, self.lost, self.last = self.hosts
        self.folder = folder

    def let(self, *hosts: Host) -> None:
        """Let these go on to their thaw."""
        for host in hosts:
            (self.folder / host.name).touch()

    @contextlib.contextmanager
    def play(self, way: str) -> Iterator[Play]:
        """Freeze all, stay so until each is let go, and thaw, whatever came before."""
        lease = {"path": list(PATHS), "lease": "fleet"}
        freeze = {"state": "frozen", "timeout": TIMEOUT, **lease}
        stay = {"argv": ["sh", "-c", STAY, f"{self.folder}/{{{{ inventory_hostname }}}}"]}
        block = [
            {"name": "Freeze", "quiesce.storage.fsfreeze": freeze},
            {"name": "Stay", "ansible.builtin.command": stay, "delegate_to": "localhost"},
        ]
        always = [{"name": "Thaw", "quiesce.storage.fsfreeze": {"state": "thawed", **lease}}]
        play = {"hosts": "all", "tasks": [{"block": block, "always": always}], **WAYS[way]}
        variables = {host.name: host.variables() for host in self.hosts}
        with playing(self.folder / "play", variables, [play], **SETTINGS) as running:
            yield running


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path, turn: int) -> Iterator[Fleet]:
    with three_hosts(lab, tmp_path) as scenes:
        yield Fleet(scenes, tmp_path)


def others(fleet: Fleet, way: str) -> list[Host]:
    """Those that get their turn: a play ends with a batch of hosts that all are lost."""
    return [fleet.first] if way == "serial" else [fleet.first, fleet.last]


def went_well(fleet: Fleet, play: Play, way: str) -> None:
    """The others were frozen, and thawed as asked; the last one of several batches never was."""
    for host in (fleet.first, fleet.last):
        assert bool(play.events("ok", "Freeze", host.name)) == (host in others(fleet, way))
    for host in others(fleet, way):
        result = play.wait("ok", "Thaw", host.name)["result"]
        assert (result["held"], result["thawed_by"]) == (True, "request")


@pytest.mark.parametrize("way", WAYS)
def test_lost_while_frozen(fleet: Fleet, table: Table, way: str):
    lost = fleet.scenes[1]
    with fleet.play(way) as play:
        if way == "serial":
            fleet.let(fleet.first, fleet.last)
        play.wait("start", "Stay", fleet.lost.name)
        assert lost.frozen()
        lost.held_up()
        (deadline,) = lost.deadlines()
        fleet.lost.cut()
        fleet.let(*fleet.hosts)
        # Whatever the play does meanwhile, and however long that takes.
        late = lost.thawed_by_deadline(deadline)
        status = play.finish(SECONDS)
        went_well(fleet, play, way)
        assert play.events("unreachable", "Thaw", fleet.lost.name)
        assert (status == 0) == (way == "ignore_unreachable"), play.said
    nothing_is_left(fleet.scenes)
    by = "the host, at its deadline; the play, at once, on all others"
    table.note("fleet", f"lost while frozen, {way}", by, late, "deadline")


@pytest.mark.parametrize("way", WAYS)
def test_lost_before_the_freeze(fleet: Fleet, table: Table, way: str):
    fleet.let(*fleet.hosts)
    fleet.lost.cut()
    with fleet.play(way) as play:
        status = play.finish(SECONDS)
        seconds = play.seconds
        went_well(fleet, play, way)
        assert play.events("unreachable", "Freeze", fleet.lost.name)
        assert (status == 0) == (way == "ignore_unreachable"), play.said
    nothing_is_left(fleet.scenes)
    by = "nobody has to; the play, at once, on all others"
    table.note("fleet", f"lost before the freeze, {way}", by, seconds, "start of the play")


@pytest.mark.parametrize("way", ["linear", "any_errors_fatal", "max_fail_percentage"])
def test_the_snapshot_of_one_host_fails(fleet: Fleet, table: Table, way: str):
    with fleet.play(way) as play:
        for host in fleet.hosts:
            play.wait("start", "Stay", host.name)
        for each in fleet.scenes:
            assert each.frozen()
            each.held_up()
        draft = fleet.folder / "draft"
        draft.write_text("no room left in the pool")
        draft.rename(fleet.folder / fleet.lost.name)
        fleet.let(fleet.first, fleet.last)
        failed_at = play.wait("failed", "Stay", fleet.lost.name)["at"]
        seconds = max(each.thawed(PROMPT) for each in fleet.scenes) - failed_at
        for host in fleet.hosts:
            result = play.wait("ok", "Thaw", host.name)["result"]
            assert (result["held"], result["thawed_by"]) == (True, "request")
        assert play.finish(SECONDS) == 2
    nothing_is_left(fleet.scenes)
    table.note("fleet", f"the snapshot of one host fails, {way}", "the play, at once", seconds)
