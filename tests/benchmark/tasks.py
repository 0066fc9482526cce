# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``tasks``: what a task costs, beside one of Ansible's own that does comparable work."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.plays import Play, playing
from tests.hosts import open_host
from tests.kernel.lab import LabError, open_lab

from .methods import HERE
from .records import Records
from .settings import Settings

CONNECTIONS: Mapping[str, Mapping[str, Any]] = {
    "local": HERE,
    "ssh": {"ansible_pipelining": False},
    "ssh, pipelining": {"ansible_pipelining": True},
}
"""The ways to a host, and what an inventory says of them."""

PAIRS = ("look", "freeze")
"""``fsfreeze_info`` and ``stat``; freeze and thaw, and two commands that do that."""

_REPEATS = 10
_SECONDS = 600.0
_PATH = "/srv"


def measure(records: Records, settings: Settings) -> None:
    """Take the measurements that are missing.

    :raises LabError: a tool or a play failed.
    """
    wanted = [
        {"run": number, "connection": connection}
        for number in range(settings.runs)
        for connection in CONNECTIONS
        if not records.has(run=number, connection=connection)
    ]
    if not wanted:
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        lab = stack.enter_context(open_lab())
        host = stack.enter_context(open_host(lab, separate=[_PATH]))
        here = stack.enter_context(lab.filesystem("ext4"))
        for key in wanted:
            connection = str(key["connection"])
            local = connection == "local"
            variables = {**({} if local else host.variables()), **CONNECTIONS[connection]}
            tasks = _tasks(str(here) if local else _PATH)
            hosts = {"localhost" if local else host.name: variables}
            plays = [{"hosts": "all", "tasks": tasks}]
            name = f"{connection.replace(', ', '-')}-{key['run']}"
            with playing(folder / name, hosts, plays) as play:
                if play.finish(_SECONDS) != 0:
                    raise LabError(f"the play failed: {play.said}")
                found = {f"{pair}_{whose}": _seconds(play, pair, whose) for pair, whose in _ALL}
            settings.say(f"{connection}, run {key['run']}: {found}")
            settings.check()
            records.add(**key, **found)


_ALL = [(pair, whose) for pair in PAIRS for whose in ("ours", "theirs")]


def _tasks(path: str) -> list[dict[str, Any]]:
    """Each of the four in turn, several times; the first of all only opens the connection."""

    def command(option: str) -> dict[str, Any]:
        return {"ansible.builtin.command": {"argv": ["fsfreeze", option, path]}}

    def freeze(state: str) -> dict[str, Any]:
        return {"quiesce.storage.fsfreeze": {"path": path, "state": state, "lease": "cost"}}

    tasks: list[dict[str, Any]] = [{"name": "Begin", "ansible.builtin.ping": {}}]
    tasks.append({"name": "Begin with ours", "quiesce.storage.fsfreeze_info": {"path": path}})
    for number in range(_REPEATS):
        for name, task in (
            ("look theirs", {"ansible.builtin.stat": {"path": path}}),
            ("look ours", {"quiesce.storage.fsfreeze_info": {"path": path}}),
            ("freeze theirs", command("-f")),
            ("thaw theirs", command("-u")),
            ("freeze ours", freeze("frozen")),
            ("thaw ours", freeze("thawed")),
        ):
            tasks.append({"name": f"{number} {name}", **task})
    return tasks


def _seconds(play: Play, pair: str, whose: str) -> list[float]:
    """How long each of them took, from its start on the controller to its result there."""
    found = []
    for number in range(_REPEATS):
        seconds = 0.0
        for step in ("freeze", "thaw") if pair == "freeze" else (pair,):
            (began,) = play.events("start", f"{number} {step} {whose}")
            (ended,) = play.events("ok", f"{number} {step} {whose}")
            seconds += ended["at"] - began["at"]
        found.append(seconds)
    return found
