# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to take a snapshot that are compared, each with the same clone.

``nothing`` and ``sync`` are controls, which freeze nothing; ``later`` is one for ``role``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.plays import playing
from tests.kernel.lab import Filesystem, LabError, run

from .agent import GuestAgent

HERE: Mapping[str, Any] = {
    "ansible_connection": "local",
    "ansible_python_interpreter": sys.executable,
}
"""What an inventory says of this machine."""

_SECONDS = 120.0
# About as long as the role looks around before it freezes, while the writers go on.
_LATER_SECONDS = 2
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Target:
    """A filesystem, the agent that sees it, and a folder for files where nothing is frozen."""

    filesystem: Filesystem
    agent: GuestAgent
    folder: Path

    @property
    def clone(self) -> Path:
        """The snapshot."""
        return self.filesystem.image.with_suffix(".clone")

    @property
    def snapshot(self) -> list[str]:
        """The command that takes it."""
        return ["cp", "--reflink=always", str(self.filesystem.image), str(self.clone)]


def play(folder: Path, tasks: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Run tasks on this machine, and return the result of one; LabError if one fails."""
    hosts = {"localhost": HERE}
    with playing(
        folder / f"play-{next(_numbers)}", hosts, [{"hosts": "all", "tasks": tasks}]
    ) as it:
        if it.finish(_SECONDS) != 0:
            raise LabError(f"the play failed: {it.said}")
        (event,) = it.events("ok", name)
        result: dict[str, Any] = event["result"]
        return result


def _clone(target: Target) -> None:
    run(*target.snapshot, timeout=_SECONDS)


def _sync(target: Target) -> None:
    run("sync", "--file-system", target.filesystem.mountpoint, timeout=_SECONDS)
    _clone(target)


def _shell(target: Target) -> None:
    script = 'fsfreeze -f "$1"; shift; "$@"; rc=$?; fsfreeze -u "$0"; exit $rc'
    mountpoint = str(target.filesystem.mountpoint)
    run("sh", "-c", script, mountpoint, mountpoint, *target.snapshot, timeout=_SECONDS)


def _tasks(target: Target) -> None:
    mountpoint = str(target.filesystem.mountpoint)
    commands = {
        "Freeze": ["fsfreeze", "-f", mountpoint],
        "Take the snapshot": target.snapshot,
        "Thaw": ["fsfreeze", "-u", mountpoint],
    }
    tasks = [
        {"name": name, "ansible.builtin.command": {"argv": argv}} for name, argv in commands.items()
    ]
    play(target.folder, tasks, "Thaw")


def _agent(target: Target) -> None:
    target.agent.freeze()
    try:
        _clone(target)
    finally:
        target.agent.thaw()


def _fsfreeze_run(target: Target, *before: Mapping[str, Any]) -> float:
    options = {"path": str(target.filesystem.mountpoint), "commands": [target.snapshot]}
    tasks = [*before, {"name": "Snapshot", "quiesce.storage.fsfreeze_run": options}]
    return _pause(play(target.folder, tasks, "Snapshot")["filesystems"])


def _later(target: Target) -> float:
    # It sleeps in the controller, and needs no terminal for that.
    wait = {"name": "Wait", "ansible.builtin.pause": {"seconds": _LATER_SECONDS}}
    return _fsfreeze_run(target, wait)


def _role(target: Target) -> float:
    variables = {
        "consistent_snapshot_paths": [str(target.filesystem.mountpoint)],
        "consistent_snapshot_provider": "command",
        "consistent_snapshot_command": target.snapshot,
    }
    role = {"name": "quiesce.storage.consistent_snapshot"}
    tasks = [
        {"name": "Include", "ansible.builtin.include_role": role, "vars": variables},
        {"name": "Tell", "ansible.builtin.debug": {"var": "consistent_snapshot_result"}},
    ]
    told = play(target.folder, tasks, "Tell")["consistent_snapshot_result"]
    return _pause(told["filesystems"])


def _pause(filesystems: Sequence[Mapping[str, Any]]) -> float:
    """For how long writers were blocked, as the result says."""
    return float(filesystems[0]["pause"])


METHODS: Mapping[str, Callable[[Target], float | None]] = {
    "nothing": _clone,
    "sync": _sync,
    "shell": _shell,
    "tasks": _tasks,
    "agent": _agent,
    "fsfreeze_run": _fsfreeze_run,
    "later": _later,
    "role": _role,
}
"""Each takes the snapshot, and returns what its own result says of the pause, if it says so."""
