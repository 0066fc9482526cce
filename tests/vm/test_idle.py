# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Idle filesystems of a machine with one processor, where nothing makes a freeze wait.

Its kernel has no grace periods to wait for, and an idle btrfs has nothing to write: it is frozen
within a millisecond, and before any other thread has its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.plays import playing
from tests.vm.machine import Machine

PATHS = ("/srv/btrfs", "/data", "/srv/xfs")
_SETUP = """\
set -e
mkfs.btrfs -q /dev/disk/by-id/virtio-spare
mkdir /srv/btrfs
mount /dev/disk/by-id/virtio-spare /srv/btrfs
"""
_LEASE = "idle"
_TIMES = 4
_SECONDS = 1200.0


def freeze_and_thaw(number: int, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Return two tasks."""
    common = {"path": paths, "lease": _LEASE}
    freeze = {**common, "state": "frozen", "timeout": 120, "freeze_timeout": 60}
    return [
        {"name": f"Freeze {number}", "quiesce.storage.fsfreeze": freeze},
        {"name": f"Thaw {number}", "quiesce.storage.fsfreeze": {**common, "state": "thawed"}},
    ]


def test_they_are_frozen_and_watched_every_time(vm: Machine, tmp_path: Path):
    assert vm.run("nproc").strip() == "1"
    vm.run("sh", "-c", _SETUP, timeout=120)
    sets = [*([path] for path in PATHS), list(PATHS)] * _TIMES
    tasks = [task for number, paths in enumerate(sets) for task in freeze_and_thaw(number, paths)]
    plays = [{"hosts": "all", "tasks": tasks}]
    hosts = {str(vm): vm.variables()}
    with playing(tmp_path / "play", hosts, plays, ANSIBLE_TIMEOUT="60") as play:
        assert play.finish(_SECONDS) == 0, play.said
        for number in range(len(sets)):
            thaw = play.wait("ok", f"Thaw {number}")["result"]
            assert (thaw["held"], thaw["thawed_by"]) == (True, "request")
    assert vm.frozen() == []
