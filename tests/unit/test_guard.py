# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guard answers, and what it does then, while it holds its set."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._wire import Line

from tests.kernel.processes import wait_for
from tests.unit.guards import Holding, holding, record_of


@pytest.fixture
def held(run_folder: Path) -> Iterator[Holding]:
    """Give a guard that holds three filesystems."""
    with holding(3) as made:
        yield made


def test_status_changes_nothing(held: Holding) -> None:
    for _each in range(3):
        answer = held.ask({"op": "status", "more": "than asked for"})
    assert answer["ok"] is answer["held"] is answer["proof"] is True
    assert answer["phase"] == "held"
    assert answer["thawed_by"] is None
    assert answer["frozen_seconds"] > 0
    assert answer["lease"]["timeout"] == 60
    assert [each["ours"] for each in answer["filesystems"]] == [True] * 3
    assert [each["device"] for each in answer["filesystems"]] == ["8:0", "8:1", "8:2"]
    assert held.kernel.thawed == []


@pytest.mark.parametrize(
    "request_",
    [
        None,
        7,
        "thaw",
        [],
        ["thaw"],
        {},
        {"op": None},
        {"op": []},
        {"op": "Thaw"},
        {"op": "thaw", "devices": 0},
        {"op": "thaw", "devices": "8:0"},
        {"op": "thaw", "devices": {"8:0": 1}},
        {"op": "thaw", "devices": False},
        {"op": "renew"},
        {"op": "renew", "timeout": None},
        {"op": "renew", "timeout": "60"},
        {"op": "renew", "timeout": 60.0},
        {"devices": None},
    ],
)
def test_what_is_not_understood_changes_nothing(held: Holding, request_: Any) -> None:
    assert held.ask(request_) == {"ok": False, "error": "not understood"}
    assert held.kernel.thawed == []
    assert held.phase == "held"


def test_thaw_of_all(held: Holding, run_folder: Path) -> None:
    answer = held.ask({"op": "thaw", "devices": None})
    assert answer["ok"] is answer["changed"] is answer["held"] is True
    assert answer["thawed_by"] == "request"
    assert held.kernel.frozen == set()
    assert [event["event"] for event in held.events()] == ["ended"]
    # The one who asked was told: nobody else has to be.
    assert record_of(run_folder) is None
    again = held.ask({"op": "thaw", "devices": None})
    assert again["changed"] is False
    assert len(held.kernel.thawed) == 3


def test_thaw_without_devices_is_of_all(held: Holding) -> None:
    assert held.ask({"op": "thaw"})["changed"] is True
    assert held.kernel.frozen == set()


def test_thaw_of_some(held: Holding) -> None:
    answer = held.ask({"op": "thaw", "devices": ["8:1", "8:77"]})
    assert answer["changed"] is answer["held"] is True
    assert answer["phase"] == held.phase == "held"
    assert held.kernel.frozen == {0, 2}
    assert [each["ours"] for each in answer["filesystems"]] == [True, False, True]
    # From now on the set is no longer of one instant.
    assert held.ask({"op": "status"})["held"] is False
    assert held.ask({"op": "renew", "timeout": 60})["ok"] is False
    last = held.ask({"op": "thaw", "devices": ["8:0", "8:2"]})
    assert last["changed"] is True
    assert last["held"] is False
    assert held.phase == "ended"


@pytest.mark.parametrize("devices", [[], ["8:77"], [None], [[]], [{}], ["8:0\n"], [80]])
def test_thaw_of_none_of_them(held: Holding, devices: list[Any]) -> None:
    assert held.ask({"op": "thaw", "devices": devices})["changed"] is False
    assert held.kernel.thawed == []
    assert held.ask({"op": "status"})["held"] is True


def test_renew(held: Holding, run_folder: Path) -> None:
    began = held.ask({"op": "status"})["lease"]["frozen_at"]
    answer = held.ask({"op": "renew", "timeout": 600})
    assert answer["ok"] is True
    assert answer["lease"]["timeout"] == 600
    assert answer["lease"]["frozen_at"] == began
    assert held.board.header.deadline == pytest.approx(now() + 600, abs=5)
    record = record_of(run_folder)
    assert record is not None
    assert record["lease"] == answer["lease"]


def test_renew_without_a_deadline(held: Holding) -> None:
    answer = held.ask({"op": "renew", "timeout": 0})
    assert answer["lease"]["deadline"] is None
    assert held.board.header.deadline == 0
    held.tick()
    assert held.phase == "held"


@pytest.mark.parametrize("timeout", [-1, -(10**400), 86401, 10**18, 10**400])
def test_renew_out_of_range(held: Holding, timeout: int) -> None:
    before = held.board.header.deadline
    assert held.ask({"op": "renew", "timeout": timeout})["ok"] is False
    assert held.board.header.deadline == before


@pytest.mark.parametrize(("late", "by"), [(0.0, "deadline"), (-3600.0, None)])
def test_deadline(held: Holding, run_folder: Path, late: float, by: str | None) -> None:
    held.board.header.deadline = now() - late
    held.tick()
    assert held.kernel.frozen == ({0, 1, 2} if by is None else set())
    record = record_of(run_folder)
    assert record is not None
    if by is None:
        assert record["ended"] is None
        assert held.events() == []
    else:
        assert record["ended"]["thawed_by"] == by
        assert record["ended"]["held"] is False
        assert record["ended"]["reported"] is False
        assert [event["thawed_by"] for event in held.events()] == [by]


def test_thawed_by_somebody_else(held: Holding, run_folder: Path) -> None:
    held.kernel.frozen.discard(1)
    answer = held.ask({"op": "thaw"})
    assert answer["held"] is False
    assert answer["thawed_by"] == "other"
    assert answer["filesystems"][1]["broken"] is not None
    assert held.kernel.frozen == set()
    record = record_of(run_folder)
    assert record is not None
    assert record["ended"]["thawed_by"] == "other"


def test_a_thaw_that_the_storage_refuses_is_tried_again(held: Holding, run_folder: Path) -> None:
    held.kernel.refuses = {0: errno.EIO}
    answer = held.ask({"op": "thaw"})
    assert held.kernel.frozen == {0}
    assert [each["error"] is not None for each in answer["filesystems"]] == [True, False, False]
    assert answer["filesystems"][0]["ours"] is True
    held.kernel.refuses = {}
    held.tick()
    assert held.kernel.frozen == set()
    assert held.ask({"op": "status"})["filesystems"][0]["error"] is None


def test_a_thaw_after_that_of_another_is_of_what_was_not_held(held: Holding) -> None:
    """One of them is stuck, the others have been written to since."""
    held.kernel.refuses = {0: errno.EIO}
    assert held.ask({"op": "thaw"})["held"] is True
    assert held.kernel.frozen == {0}
    late = held.ask({"op": "thaw"})
    assert (late["changed"], late["held"], late["thawed_by"]) == (True, False, "other")


def test_part_of_it_that_the_storage_refuses_to_thaw_is_tried_again(
    held: Holding, run_folder: Path
) -> None:
    held.kernel.refuses = {0: errno.EIO}
    assert held.ask({"op": "thaw", "devices": ["8:0"]})["filesystems"][0]["error"]
    held.tick()
    assert held.kernel.frozen == {0, 1, 2}
    held.kernel.refuses = {}
    held.tick()
    assert held.kernel.frozen == {1, 2}
    assert held.phase == "held"
    record = record_of(run_folder)
    assert record is not None
    assert [each["released"] for each in record["filesystems"]] == [True, False, False]


def test_a_lease_ends_with_the_last_part_of_it(held: Holding) -> None:
    """Whichever part of it was the last that the storage let go of."""
    held.kernel.refuses = {0: errno.EIO}
    held.ask({"op": "thaw", "devices": ["8:0"]})
    held.ask({"op": "thaw", "devices": ["8:1"]})
    assert held.phase == "held"
    last = held.ask({"op": "thaw", "devices": ["8:2"]})
    assert (held.phase, last["held"]) == ("ended", False)
    held.kernel.refuses = {}
    held.tick()
    assert held.kernel.frozen == set()
    held.finish()


def test_a_part_that_thaws_late_ends_it(held: Holding) -> None:
    done = threading.Event()
    held.kernel.waits = {2: done}
    held.ask({"op": "thaw", "devices": ["8:0", "8:1"]})
    held.board.rows[2].released = 0
    try:
        answer = held.ask({"op": "thaw", "devices": ["8:2"]})
        assert answer["filesystems"][2]["error"]
    finally:
        done.set()
    wait_for(lambda: held.board.rows[2].released, 5)
    held.tick()
    held.finish()


@pytest.mark.parametrize("gone", [False, True])
def test_a_freezer_that_is_stopped_keeps_no_guard(held: Holding, gone: bool) -> None:
    """Also where nothing is frozen any more. The number of one that has ended may be another's."""
    vars(held.guard)["_freezer_gone"] = gone
    held.ask({"op": "thaw"})
    held.tick()
    assert vars(held.guard)["_family"].asked_to_end is not gone


def test_a_freeze_that_nobody_can_be_told_of_is_ended(held: Holding) -> None:
    """The client has ended in the moment in which all was frozen."""
    vars(held.guard)["_phase"] = "freezing"
    held.client.close()
    held.guard._freezing_done()
    assert held.kernel.frozen == set()
    assert (held.phase, held.account.thawed_by) == ("ended", "other")


def test_who_has_been_told_of_an_armed_guard_may_go(held: Holding) -> None:
    """That it hangs up comes to the ear of a guard that may be freezing by then."""
    vars(held.guard)["_audience"].answered()
    vars(held.guard)["_phase"] = "freezing"
    held.hang_up()
    assert held.phase == "freezing"
    assert held.kernel.thawed == []


def test_a_slow_thaw_is_waited_for_before_the_answer(held: Holding) -> None:
    done = threading.Event()
    held.kernel.waits = {1: done}
    threading.Timer(0.4, done.set).start()
    answer = held.ask({"op": "thaw"})
    assert held.kernel.frozen == set()
    assert [each["ours"] for each in answer["filesystems"]] == [False] * 3
    assert [each["error"] for each in answer["filesystems"]] == [None] * 3


def test_a_thaw_that_does_not_end_is_told(held: Holding) -> None:
    """Neither the others nor the one who asked wait for it for long."""
    done = threading.Event()
    held.kernel.waits = {1: done}
    try:
        began = now()
        answer = held.ask({"op": "thaw"})
        assert now() - began < 4
        assert held.kernel.frozen == {1}
        assert [each["ours"] for each in answer["filesystems"]] == [False, True, False]
        assert answer["filesystems"][1]["error"] == "its storage has not answered"
        assert held.phase == "ended"
    finally:
        done.set()
    wait_for(lambda: not held.kernel.frozen and held.board.rows[1].released, 5)
    assert held.ask({"op": "status"})["filesystems"][1]["error"] is None


@pytest.mark.parametrize("tied", [False, True])
def test_the_client_goes_away(run_folder: Path, tied: bool) -> None:
    """Only a freeze that is tied to its client ends with it."""
    with holding(2, tied=tied) as held:
        held.hang_up()
        assert (held.kernel.frozen == set()) is tied
        record = record_of(run_folder)
        assert record is not None
        assert (record["ended"] or {}).get("thawed_by") == ("other" if tied else None)


def test_several_requests_in_one_breath(held: Holding) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        theirs.sendall(b'{"op": "status"}\nnonsense\n{"op": "thaw", "devices": ["8:0"]}\n{"op"')
        held.read(Line(ours))
        answers = [json.loads(line) for line in theirs.recv(1 << 20).splitlines()]
    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert held.kernel.frozen == {1, 2}
