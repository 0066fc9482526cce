# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock is set while filesystems are frozen. A deadline is not moved by that."""

from __future__ import annotations

import time

import pytest

from tests.faults.table import Table
from tests.vm.scene import DATA, LATE, PATHS, Scene

TIMEOUT = 30

jumps = pytest.mark.parametrize("jump", ["+1 hour", "-1 hour", "-10 days"])


@jumps
def test_the_deadline_stays(scene: Scene, table: Table, jump: str):
    with scene.frozen(timeout=TIMEOUT) as play:
        # The host's clock and the machine's run equally fast; nobody has set the former.
        frozen_at = play.wait("start", "Be frozen")["at"]
        scene.vm.run("date", "--set", jump)
        assert sorted(scene.vm.frozen()) == sorted(PATHS)
        scene.vm.thawed_after(seconds=60)
        held_for = time.monotonic() - frozen_at
        result = scene.thaw(play)
    # What the play was told arrived some time after the freeze.
    assert held_for < TIMEOUT + LATE
    late = result["frozen_seconds"] - TIMEOUT
    assert 0 <= late < LATE
    assert (result["held"], result["thawed_by"]) == (False, "deadline")
    scene.nothing_lost()
    table.note(
        "machine", f"the clock is set, {jump}", "the host, at its deadline", late, "deadline"
    )


@jumps
def test_the_proof_stays(scene: Scene, table: Table, jump: str):
    with scene.frozen(path=[DATA]) as play:
        scene.vm.run("date", "--set", jump)
        seconds = scene.thaw_well(play)
    scene.nothing_lost()
    fault = f"the clock is set, {jump}, and a thaw is requested"
    table.note("machine", fault, "the play", seconds, "request")
