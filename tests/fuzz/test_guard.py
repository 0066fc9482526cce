# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard, asked anything: it answers, holds what nobody asked it to thaw, and never lies."""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.strategies import JSON, like
from tests.unit.guards import Holding, holding, record_of

COUNT = 3
DEVICES = [f"8:{number}" for number in range(COUNT)]
PATHS = [f"/srv/{number}" for number in range(COUNT)]
NOT_A_THAW = st.one_of(
    JSON,
    like({"op": "status"}),
    like({"op": "renew", "timeout": 60}),
    st.fixed_dictionaries({"op": st.just("renew"), "timeout": JSON}),
    st.fixed_dictionaries({"op": st.just("thaw"), "devices": JSON}),
    like({"op": "release", "paths": PATHS}),
    st.fixed_dictionaries({"op": st.just("release"), "paths": st.lists(st.sampled_from(PATHS))}),
    like({"op": "agree", "at": 1.0}),
    like({"op": "listen"}),
).filter(lambda request: not thaws(request))


def thaws(request: Any) -> set[str]:
    """The devices that a request names rightly for a thaw."""
    if not isinstance(request, dict):
        return set()
    if request.get("op") == "release":
        return set(DEVICES if is_whole(request.get("paths")) else [])
    if request.get("op") != "thaw":
        return set()
    devices = request.get("devices")
    if devices is None:
        return set(DEVICES)
    return {each for each in DEVICES if each in devices} if isinstance(devices, list) else set()


def is_whole(paths: Any) -> bool:
    """Whether these are the paths of all of it, and of nothing else."""
    named = [each for each in paths if isinstance(each, str)] if isinstance(paths, list) else []
    return {posixpath.normpath(each) for each in named} == set(PATHS)


def well_formed(answer: dict[str, Any]) -> None:
    """What a client relies on."""
    assert isinstance(answer["ok"], bool)
    assert json.loads(json.dumps(answer)) == answer
    if "filesystems" in answer:
        assert [each["device"] for each in answer["filesystems"]] == DEVICES
        assert answer["lease"]["name"] == "unit"
    else:
        assert answer == {"ok": False, "error": "not understood"}


@given(requests=st.lists(NOT_A_THAW, max_size=5))
def test_what_asks_for_no_thaw_thaws_nothing(run_folder: Path, requests: list[Any]) -> None:
    with holding(COUNT) as held:
        for request in requests:
            well_formed(held.ask(request))
        held.tick()
        assert held.kernel.frozen == set(range(COUNT))
        status = held.ask({"op": "status"})
        assert status["held"] is True
        assert status["phase"] == "held"
        header = held.board.header
        assert header.deadline == 0 or 0 < header.deadline - now() <= 86400
        record = record_of(run_folder)
        assert record is not None
        assert record["ended"] is None
        assert record["lease"] == status["lease"]


STEPS = st.one_of(
    st.tuples(
        st.just("thaw"), st.none() | st.lists(st.sampled_from([*DEVICES, "8:9", 7, []]), max_size=3)
    ),
    st.tuples(
        st.just("release"),
        st.permutations(PATHS)
        | st.lists(st.sampled_from([*PATHS, "/srv/0/", "/srv", "/srv/9", 7, []]), max_size=4),
    ),
    st.tuples(st.just("agree"), st.floats()),
    st.tuples(st.just("listen"), st.none()),
    st.tuples(st.just("renew"), st.integers(-1, 100_000)),
    st.tuples(st.just("stranger"), st.integers(0, COUNT - 1)),
    st.tuples(st.just("storage"), st.integers(0, COUNT - 1)),
    st.tuples(st.just("repair"), st.none()),
    st.tuples(st.just("deadline"), st.none()),
    st.tuples(st.just("tick"), st.none()),
    st.tuples(st.just("client gone"), st.none()),
)


class Course:
    """A guard, what is done to it, and what has to be true of it then."""

    def __init__(self, held: Holding) -> None:
        self.held = held
        self.kernel = held.kernel
        self.client = True
        # Something was thawed by the guard. Nothing real sleeps here on what a stranger
        # thaws, so that the guard learns of it by its own thaw.
        self.touched = False
        # A thaw of some or all of it was asked for.
        self.asked = False

    def step(self, what: str, value: Any) -> None:
        before = set(self.kernel.frozen)
        if what == "thaw":
            self.thaw(value)
        elif what == "release":
            self.release(value)
        elif what in ("agree", "listen"):
            more = {"at": value} if what == "agree" else {}
            well_formed(self.held.ask({"op": what, **more}))
            assert self.kernel.frozen == before
        elif what == "renew":
            answer = self.held.ask({"op": "renew", "timeout": value})
            well_formed(answer)
            possible = self.held.phase == "held" and not self.touched
            assert possible or not answer["ok"]
        elif what == "deadline":
            if self.held.phase == "held":
                self.held.board.header.deadline = now() - 1
            self.held.tick()
            assert self.kernel.frozen <= set(self.kernel.refuses)
        elif what == "stranger":
            self.kernel.frozen.discard(value)
        elif what == "storage":
            self.kernel.refuses[value] = 5
        elif what == "repair":
            self.kernel.refuses.clear()
        elif what == "tick":
            self.held.tick()
        elif self.client:
            self.client = False
            self.held.hang_up()
        self.touched = self.touched or (before != self.kernel.frozen and what != "stranger")

    def thaw(self, devices: list[Any] | None) -> None:
        # A guard that has ended says how that was, to whoever still finds it.
        whole = self.held.phase == "ended" or not self.touched
        self.asked = True
        answer = self.held.ask({"op": "thaw", "devices": devices})
        well_formed(answer)
        assert whole or not answer["held"]
        wanted = {n for n, device in enumerate(DEVICES) if devices is None or device in devices}
        assert self.kernel.frozen & wanted <= set(self.kernel.refuses)

    def release(self, paths: list[Any]) -> None:
        """It is of all that is held, unbroken, or it is of nothing."""
        before = set(self.kernel.frozen)
        possible = self.held.phase == "held" and is_whole(paths) and not self.touched
        certain = possible and not self.asked and before == set(range(COUNT))
        answer = self.held.ask({"op": "release", "paths": paths})
        well_formed(answer)
        assert certain <= answer["ok"] <= possible
        if answer["ok"]:
            assert self.kernel.frozen <= set(self.kernel.refuses)
        else:
            assert self.kernel.frozen == before


@given(steps=st.lists(STEPS, max_size=8), tied=st.booleans())
def test_any_course_of_events(run_folder: Path, steps: list[tuple[str, Any]], tied: bool) -> None:
    """Held is said only where nothing was thawed before; and at the end all is thawed."""
    with holding(COUNT, tied=tied) as held:
        course = Course(held)
        for what, value in steps:
            course.step(what, value)
        held.kernel.refuses.clear()
        held.ask({"op": "thaw"})
        assert held.kernel.frozen == set()
        assert len(held.kernel.thawed) == len(set(held.kernel.thawed))
        last = held.ask({"op": "status"})
        assert last["phase"] == "ended"
        assert not any(each["ours"] for each in last["filesystems"])
        assert last["thawed_by"] == "request" or not last["held"]
        held.finish()
        record = record_of(run_folder)
        assert (record is None) == (last["thawed_by"] == "request")
        if record is not None:
            assert record["ended"]["thawed_by"] == last["thawed_by"]
            assert record["ended"]["held"] is False
