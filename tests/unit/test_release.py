# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``release``: a thaw of a whole, unbroken lease by its paths, or of nothing; and who listens."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

from tests.unit.guards import Holding, holding, record_of

WHOLE = ["/srv/0", "/srv/1", "/srv/2"]


@pytest.fixture
def held(run_folder: Path) -> Iterator[Holding]:
    """Give a guard that holds three filesystems."""
    with holding(3) as made:
        yield made


def release(held: Holding, *paths: Any) -> dict[str, Any]:
    """What the guard says to that."""
    return held.ask({"op": "release", "paths": list(paths)})


@pytest.mark.parametrize(
    "paths",
    [
        WHOLE,
        WHOLE[::-1],
        [*WHOLE, "/srv/0"],
        ["/srv/0/", "/srv//1", "/srv/./2"],
        ["/srv/0", "/srv/1", "/srv/2/../2"],
    ],
)
def test_all_of_it(held: Holding, run_folder: Path, paths: list[str]) -> None:
    answer = release(held, *paths)
    assert answer["ok"] is answer["changed"] is answer["held"] is True
    assert (answer["phase"], answer["thawed_by"]) == ("ended", "request")
    assert held.kernel.frozen == set()
    # Who asked was told.
    assert record_of(run_folder) is None


@pytest.mark.parametrize(
    "paths",
    [
        [],
        WHOLE[:1],
        WHOLE[:2],
        [*WHOLE, "/srv/3"],
        [*WHOLE[:2], "/srv/3"],
        [*WHOLE[:2], "/srv"],
        [*WHOLE[:2], "srv/2"],
        [*WHOLE[:2], "/srv/2x"],
        [*WHOLE[:2], ["/srv/2"]],
        [*WHOLE[:2], None],
        [0, 1, 2],
    ],
)
def test_a_part_or_another_set(held: Holding, run_folder: Path, paths: list[Any]) -> None:
    answer = release(held, *paths)
    assert answer["ok"] is False
    assert (answer["held"], answer["phase"], answer["thawed_by"]) == (True, "held", None)
    assert held.kernel.thawed == []
    record = record_of(run_folder)
    assert record is not None
    assert record["ended"] is None


def broken_by_a_witness(held: Holding) -> None:
    """Who slept on one of them has woken up, and the guard has not looked since."""
    held.kernel.frozen.discard(1)
    vars(held.guard)["_members"][1].witness = os.getpid()
    row = held.board.rows[1]
    row.armed = row.completed = 1
    row.woke = now()


def thawed_in_part(held: Holding) -> None:
    assert held.ask({"op": "thaw", "devices": ["8:1"]})["changed"]


def stuck_in_part(held: Holding) -> None:
    """A thaw of one was asked for, and its storage has refused it."""
    held.kernel.refuses = {1: errno.EIO}
    assert held.ask({"op": "thaw", "devices": ["8:1"]})["filesystems"][1]["error"]


@pytest.mark.parametrize("event", [broken_by_a_witness, thawed_in_part, stuck_in_part])
def test_a_lease_that_is_broken(held: Holding, event: Callable[[Holding], None]) -> None:
    """There is more to be told than that all went well, and the module looks for it."""
    event(held)
    frozen = set(held.kernel.frozen)
    answer = release(held, *WHOLE)
    assert (answer["ok"], answer["held"], answer["phase"]) == (False, False, "held")
    assert held.kernel.frozen == frozen


@pytest.mark.parametrize("phase", ["flushing", "armed", "freezing"])
def test_a_lease_that_is_not_frozen_yet(held: Holding, phase: str) -> None:
    vars(held.guard)["_phase"] = phase
    assert release(held, *WHOLE)["ok"] is False
    assert held.phase == phase
    assert held.kernel.thawed == []


def test_a_lease_that_has_ended(held: Holding) -> None:
    assert release(held, *WHOLE)["ok"] is True
    assert release(held, *WHOLE)["ok"] is False


def test_a_lease_whose_deadline_has_come(held: Holding) -> None:
    """Also where the guard, which was stopped, hears of the request first."""
    held.board.header.deadline = now() - 1
    answer = release(held, *WHOLE)
    assert (answer["ok"], answer["held"], answer["thawed_by"]) == (False, False, "deadline")
    assert held.kernel.frozen == set()


@pytest.mark.parametrize("paths", [None, "/srv/0", {"/srv/0": 1}, 7])
def test_what_are_no_paths(held: Holding, paths: Any) -> None:
    answer = held.ask({"op": "release", "paths": paths})
    assert answer == {"ok": False, "error": "not understood"}
    assert held.kernel.thawed == []


@pytest.mark.parametrize("at", [None, 1, "1.0", True])
def test_what_is_no_time(held: Holding, at: Any) -> None:
    assert held.ask({"op": "agree", "at": at}) == {"ok": False, "error": "not understood"}


@pytest.mark.parametrize("at", [1.0, 0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_freeze_without_an_appointment_has_none(held: Holding, at: float) -> None:
    answer = held.ask({"op": "agree", "at": at})
    assert (answer["ok"], answer["held"], answer["phase"]) == (False, True, "held")
    assert "at" not in answer["lease"]


def test_who_listens_is_told_of_the_end_and_thaws_nothing(held: Holding) -> None:
    answer = held.ask({"op": "listen"})
    assert answer["ok"] is answer["held"] is True
    assert held.told() == []
    release(held, *WHOLE)
    assert [each["event"] for each in held.told()] == ["ended"]
