# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order a set is thawed of which some is stored on the rest."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _thaw
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

from tests.unit.guards import holding


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each level end before the next begins, however busy this machine is."""
    monkeypatch.setattr(_thaw, "_PATIENCE_SECONDS", 20.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", ["request", "devices", "release", "deadline"])
@pytest.mark.parametrize(
    ("levels", "order"),
    [
        ((0, 1, 2), [2, 1, 0]),
        ((2, 1, 0), [0, 1, 2]),
        ((1, 2, 0), [1, 0, 2]),
        ((0, 7, 3), [1, 2, 0]),
    ],
)
def test_what_was_frozen_last_is_thawed_first(
    run_folder: Path, levels: tuple[int, ...], order: list[int], how: str
) -> None:
    """The frozen filesystem that another one is stored on is thawed after that one."""
    with holding(3, levels=levels) as held:
        if how == "deadline":
            held.board.header.deadline = now() - 1
            held.tick()
        elif how == "release":
            held.ask({"op": "release", "paths": ["/srv/0", "/srv/1", "/srv/2"]})
        else:
            devices = ["8:0", "8:1", "8:2"] if how == "devices" else None
            held.ask({"op": "thaw", "devices": devices})
        assert held.kernel.thawed == order


@pytest.mark.usefixtures("patient")
def test_a_part_of_it_is_thawed_in_that_order_too(run_folder: Path) -> None:
    with holding(4, levels=(0, 1, 2, 3)) as held:
        held.ask({"op": "thaw", "devices": ["8:0", "8:2", "8:3"]})
        assert held.kernel.thawed == [3, 2, 0]


def test_what_is_stuck_does_not_keep_what_it_is_stored_on(run_folder: Path) -> None:
    """It may be just that which it waits for."""
    with holding(3, levels=(0, 1, 2)) as held:
        done = threading.Event()
        held.kernel.waits = {2: done}
        try:
            held.ask({"op": "thaw"})
            assert held.kernel.thawed == [1, 0]
        finally:
            done.set()
