# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role on a machine: plays that take snapshots, and what came of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.plays import playing
from tests.vm.machine import Machine

_SECONDS = 1200.0
# A number that is counted up on one filesystem after the other, in a file that is replaced.
WRITER = """\
import itertools, os, sys, time
os.nice(10)
for number in itertools.count(1):
    for path in sys.argv[1:]:
        with open(path + "/number.new", "w") as stream:
            stream.write(str(number))
        os.rename(path + "/number.new", path + "/number")
    time.sleep(0.01)
"""
_SETTINGS = {"ANSIBLE_TIMEOUT": "60", "ANSIBLE_PIPELINING": "1"}


class Outcome(NamedTuple):
    """What a run of the role came to."""

    result: dict[str, Any]
    """The fact ``consistent_snapshot_result``; {} where it was not set."""
    error: str
    """What the role failed with; empty where it did not."""
    changed: bool
    """Whether any task of the play said so, also one of another run in it."""
    judged: list[dict[str, Any]]
    """The results of the tasks that are named ``Judge``."""


class Roles:
    """Runs the role on one machine."""

    def __init__(self, vm: Machine, folder: Path, **variables: Any) -> None:
        """``variables`` are the role's, without their prefix, for where a run gives no other."""
        self.vm = vm
        self._folder = folder
        self._variables = variables
        self._numbers = itertools.count(1)

    def run(
        self, *arguments: str, judge: Sequence[Mapping[str, Any]] = (), **variables: Any
    ) -> Outcome:
        """Run the role once.

        :param arguments: more arguments for ansible-playbook.
        :param judge: tasks to run after it, which change nothing.
        """
        return self.all([variables], *arguments, judge=judge)[0]

    def all(
        self,
        runs: Sequence[Mapping[str, Any]],
        *arguments: str,
        judge: Sequence[Mapping[str, Any]] = (),
    ) -> list[Outcome]:
        """Run the role with one set of variables after another, in one play."""
        tasks = [task for number, run in enumerate(runs) for task in self._tasks(number, run)]
        folder = self._folder / f"role-{next(self._numbers)}"
        hosts = {str(self.vm): self.vm.variables()}
        plays = [{"hosts": "all", "tasks": [*tasks, *judge]}]
        with playing(folder, hosts, plays, *arguments, **_SETTINGS) as play:
            status = play.finish(_SECONDS * len(runs))
            assert status == 0, play.said
            said = [play.wait("ok", f"Say {n}")["result"]["msg"] for n in range(len(runs))]
            changed = any(each["result"].get("changed") for each in play.events("ok", ""))
            judged = [each["result"] for each in play.events("ok", "Judge")]
        return [Outcome(each["result"], each["error"], changed, judged) for each in said]

    def _tasks(self, number: int, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        named = {**self._variables, **variables}
        role = {
            "name": "Run the role",
            "ansible.builtin.include_role": {"name": "quiesce.storage.consistent_snapshot"},
            "vars": {f"consistent_snapshot_{name}": value for name, value in named.items()},
        }
        fact = "ansible.builtin.set_fact"
        none = {"consistent_snapshot_result": {}, "error": ""}
        error = {"name": "Note", fact: {"error": "{{ ansible_failed_result.msg }}"}}
        said = {"result": "{{ consistent_snapshot_result }}", "error": "{{ error }}"}
        return [
            {"name": "Forget", fact: none},
            {"block": [role], "rescue": [error]},
            {"name": f"Say {number}", "ansible.builtin.debug": {"msg": said}},
        ]
