# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``fleet``: what happens to a host, and to the controller, as the hosts become more."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import itertools
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults.plays import Play, running
from tests.hosts import Host
from tests.hosts.fleet import Plan, open_fleet
from tests.kernel.lab import GIB, MIB, LabError, open_lab
from tests.kernel.systemd_host import FIFREEZE, machine_suite

from .records import Records
from .settings import Settings

FORKS = (5, 50)
"""How many hosts Ansible works on at the same time."""

PLAYS = ("ping", "snapshot", "group")
"""Ansible's own; the playbook ``snapshot``; and the role with all hosts frozen at one time."""

BARE = "bare"
"""No play: the filesystems of all hosts, frozen from outside at one time, and nothing else."""

_PATH = "/srv"
_HOST_SIZE = 256 * MIB
_LAB_SIZE = 16 * GIB
# All hosts on one disk would wait for each other's writes, which those of a real fleet do not.
_MEMORY = Path("/dev/shm")
_MESSAGES = 10
_LETTERS = 2000
_SECONDS = 7200.0
# For all threads to be there.
_BARE_LEAD_SECONDS = 1.0
_BARE_MOST_SECONDS = 30.0
_VARIABLES = {
    "consistent_snapshot_paths": [_PATH],
    "consistent_snapshot_provider": "command",
    "consistent_snapshot_command": ["true"],
    # A group is frozen until the last host has had its turn, and two processors are few for all
    # of the hosts and their controller.
    "consistent_snapshot_timeout": 900,
    "consistent_snapshot_clock_uncertainty": 2,
}
_numbers = itertools.count(1)


def measure(records: Records, settings: Settings) -> None:
    """Take the measurements that are missing.

    :raises LabError: a tool or a play failed.
    """
    for number in settings.hosts:
        wanted = [key for key in keys(number, settings.fleet_runs) if not records.has(**key)]
        if wanted:
            _measure(records, settings, number, wanted)


def keys(number: int, runs: int) -> list[dict[str, Any]]:
    """What is measured with so many hosts: in each run one alone, then all in each way."""
    ways = [("snapshot", 1, FORKS[0]), ("ping", 1, FORKS[0])]
    ways += [(name, number, forks) for forks in FORKS for name in ("ping", "snapshot")]
    # In a group the freeze begins everywhere at one time; the forks change only how long it takes.
    ways += [(name, number, FORKS[-1]) for name in (BARE, "group")]
    return [
        {"fleet": number, "run": run, "play": name, "hosts": hosts, "forks": forks}
        for run in range(runs)
        for name, hosts, forks in ways
    ]


def _measure(
    records: Records, settings: Settings, number: int, wanted: Sequence[Mapping[str, Any]]
) -> None:
    planned = [
        Plan(f"host{each + 1:03}", machine_suite(), {_PATH: "ext4"}) for each in range(number)
    ]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_MEMORY)))
        lab = stack.enter_context(open_lab(_MEMORY, max(_LAB_SIZE, number * _HOST_SIZE)))
        hosts = stack.enter_context(open_fleet(lab, planned))
        for key in wanted:
            began = time.monotonic()
            taking_part = hosts[: key["hosts"]]
            if key["play"] == BARE:
                found = _bare(taking_part)
            else:
                found = _play(folder / f"play-{next(_numbers)}", taking_part, key)
            took = time.monotonic() - began
            settings.say(f"{key}: {took:.1f} s, {found}")
            settings.check()
            records.add(**key, seconds=took, **found)


def _bare(hosts: Sequence[Host]) -> dict[str, Any]:
    """What the kernel and the processors of this machine give: how far apart bare freezes end."""
    with contextlib.ExitStack() as stack:
        fds = []
        for host in hosts:
            fds.append(os.open(host.outside(_PATH), os.O_RDONLY))
            stack.callback(os.close, fds[-1])
            host.arm_thaw(_BARE_MOST_SECONDS)
            stack.callback(host.thaw)
        at = time.monotonic() + _BARE_LEAD_SECONDS

        def freeze(fd: int) -> float:
            time.sleep(max(0.0, at - time.monotonic()))
            fcntl.ioctl(fd, FIFREEZE, 0)
            return time.monotonic()

        with ThreadPoolExecutor(len(hosts)) as pool:
            ended = list(pool.map(freeze, fds))
    return {"spread_seconds": max(ended) - min(ended), "longest_seconds": max(ended) - at}


def _play(folder: Path, hosts: Sequence[Host], key: Mapping[str, Any]) -> dict[str, Any]:
    """Run one of PLAYS, and return what its results say, beside how long it took."""
    folder.mkdir()
    inventory, playbook = folder / "inventory.json", folder / "playbook.yml"
    variables = {host.name: host.variables(ansible_pipelining=True) for host in hosts}
    inventory.write_text(json.dumps({"all": {"hosts": variables}}))
    playbook.write_text(json.dumps([_PLAYS[key["play"]]] if key["play"] in _PLAYS else []))
    argv = ["-i", str(inventory), "--forks", str(key["forks"]), "-e", json.dumps(_VARIABLES)]
    argv.append(str(playbook) if key["play"] in _PLAYS else "quiesce.storage.snapshot")
    settings = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s"}
    with running(folder, argv, settings) as play:
        if play.finish(_SECONDS) != 0:
            raise LabError(f"the play failed: {_why(play)}")
        return {} if key["play"] == "ping" else _told(play, len(hosts))


def _why(play: Play) -> str:
    """What the hosts say that failed, each message once; or what Ansible says, if none of them
    came to that."""
    failed = [*play.events("failed", ""), *play.events("unreachable", "")]
    messages = collections.Counter(
        " ".join(str(each["result"].get("msg")).split()) for each in failed
    )
    if not messages:
        _before, mark, errors = play.said.partition("[ERROR]")
        return (mark + errors)[:_LETTERS] or play.said[-_LETTERS:]
    return "; ".join(f"{number} x {msg}" for msg, number in messages.most_common(_MESSAGES))


_PLAYS: Mapping[str, Mapping[str, Any]] = {
    "ping": {
        "hosts": "all",
        "gather_facts": False,
        "strategy": "ansible.builtin.host_pinned",
        "tasks": [{"name": "Ping", "ansible.builtin.ping": {}}],
    },
    "group": {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Snapshot",
                "ansible.builtin.include_role": {"name": "quiesce.storage.consistent_snapshot"},
                "vars": {"consistent_snapshot_group": True},
            }
        ],
    },
}


def _told(play: Play, number: int) -> dict[str, Any]:
    """What the hosts say of their freezes."""
    told = [
        each["result"]["ansible_facts"]["consistent_snapshot_result"]
        for each in play.events("ok", "Set the result")
    ]
    if len(told) != number or not all(each["held"] for each in told):
        raise LabError(f"of {number} hosts, {len(told)} say what came of it: {told}")
    group = told[0]["group"] or {}
    return {
        "frozen_seconds": [each["frozen_seconds"] for each in told],
        "pauses": [each["filesystems"][0]["pause"] for each in told],
        "proven": group.get("proven"),
        "spread_seconds": group.get("spread_seconds"),
        "overlap_seconds": group.get("seconds"),
    }
