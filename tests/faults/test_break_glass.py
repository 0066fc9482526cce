# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook ``thaw`` on a host where everything else went wrong."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import Host, open_host
from tests.kernel.lab import Lab
from tests.kernel.processes import kill_together

from .scene import Scene
from .table import Table

SEPARATE = ("/srv", "/var", "/opt", "/home", "/tmp")
LEASES = {
    "killed": ["/srv"],
    "stopped": ["/home"],
    "unmounted": ["/opt"],
    "living": ["/tmp", "/"],
}


@pytest.fixture
def wreck(lab: Lab, tmp_path: Path, turn: int) -> Iterator[Scene]:
    """Give a host on which everything is frozen, in every way that leaves nobody to thaw it."""
    with open_host(lab, separate=SEPARATE) as host:
        host.arm_thaw(150)
        scene = Scene(host, tmp_path / "scene")
        stopped: list[int] = []
        try:
            freeze_all(scene)
            guards = {name: scene.guards_of(name) for name in LEASES}
            host.run("umount", "--lazy", "/opt")
            kill_together([*guards["killed"], *guards["unmounted"]])
            host.run("fsfreeze", "--freeze", "/var")
            stopped = guards["stopped"]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            assert set(host.frozen()) == set(host.paths)
            yield scene
        finally:
            host.thaw()
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def freeze_all(scene: Scene) -> None:
    """Freeze under each lease, without a deadline."""
    tasks = [
        {
            "name": f"Freeze as {lease}",
            "quiesce.storage.fsfreeze": {
                "path": paths,
                "state": "frozen",
                "timeout": 0,
                "lease": lease,
            },
        }
        for lease, paths in LEASES.items()
    ]
    with scene.play(tasks) as play:
        assert play.finish() == 0, play.said


def test_nobody_is_left_to_thaw(wreck: Scene, table: Table):
    with wreck.break_glass() as play:
        assert play.finish(120) == 0, play.said
        # The whole run, from the start of ansible-playbook.
        seconds = play.seconds
    assert wreck.host.frozen() == []
    for lease in LEASES:
        assert f"lease {lease}" in play.said
    assert "something that is no lease" in play.said
    table.note("break glass", "every guard dead or stopped, one unmounted", "the playbook", seconds)


def fill(host: Host, folder: str) -> None:
    """Leave no room in a tmpfs of the host."""
    with contextlib.suppress(OSError), host.outside(f"{folder}/filler").open("wb", 0) as file:
        while True:
            file.write(bytes(1 << 16))


def test_and_no_memory_is_left_for_ansible(wreck: Scene, table: Table):
    for folder in ("/run", "/dev/shm"):
        fill(wreck.host, folder)
    with wreck.break_glass() as play:
        play.finish(180)
        seconds = play.seconds
    # What has no path any more can only be reached by a module.
    assert wreck.host.frozen() == ["/opt"]
    assert "by the shell" in play.said
    table.note("break glass", "the same, and both tmpfs are full", "the playbook", seconds)
