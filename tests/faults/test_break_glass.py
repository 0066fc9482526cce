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

from tests.kernel.lab import Lab
from tests.kernel.processes import kill_together

from .scene import Scene, full, scene
from .table import Table
from .writers import LIGHT

SEPARATE = ("/srv", "/var", "/opt", "/home", "/tmp")
# One whose guard is killed, one whose guard is stopped, and one that was frozen by hand.
WRITTEN = ("/srv", "/home", "/var")
_SECONDS = 240
LEASES = {
    "killed": ["/srv"],
    "stopped": ["/home"],
    "unmounted": ["/opt"],
    "living": ["/tmp", "/"],
}


@pytest.fixture
def wreck(lab: Lab, tmp_path: Path, turn: int) -> Iterator[Scene]:
    """Give a host on which everything is frozen, in every way that leaves nobody to thaw it."""
    with scene(lab, tmp_path / "scene", separate=SEPARATE) as stage:
        stopped: list[int] = []
        for path in WRITTEN:
            stage.write(path, LIGHT)
        try:
            freeze_all(stage)
            guards = {name: stage.guards_of(name) for name in LEASES}
            stage.host.run("umount", "--lazy", "/opt")
            kill_together([*guards["killed"], *guards["unmounted"]])
            stage.host.run("fsfreeze", "--freeze", "/var")
            stopped = guards["stopped"]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            assert stage.frozen()
            stage.held_up()
            yield stage
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def freeze_all(stage: Scene) -> None:
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
    with stage.play(tasks) as play:
        assert play.finish() == 0, play.said


def test_nobody_is_left_to_thaw(wreck: Scene, table: Table):
    with wreck.break_glass() as play:
        assert play.finish(_SECONDS) == 0, play.said
        # The whole run, from the start of ansible-playbook.
        seconds = play.seconds
    assert wreck.host.frozen() == []
    wreck.nothing_lost()
    for lease in LEASES:
        assert f"lease {lease}" in play.said
    assert "something that is no lease" in play.said
    table.note("break glass", "every guard dead or stopped, one unmounted", "the playbook", seconds)


def test_and_no_memory_is_left_for_ansible(wreck: Scene, table: Table):
    """A module needs room, and gets through once the shell has thawed what is mounted."""
    with full(wreck, "/run", "/dev/shm"), wreck.break_glass() as play:
        assert play.finish(_SECONDS) == 0, play.said
        seconds = play.seconds
        for path in ("/srv", "/home", "/var", "/tmp", "/"):
            assert f'"{path}, by the shell"' in play.said
        # It is mounted nowhere.
        assert ", held by lease unmounted since " in play.said
    assert wreck.host.frozen() == []
    wreck.nothing_lost()
    fault = "every guard dead or stopped, one unmounted, and /run and /dev/shm full"
    by = "the playbook, by the shell; the one that was unmounted, by a module after that"
    table.note("break glass", fault, by, seconds)
