# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guard does until the agreed time."""

from __future__ import annotations

import time

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _appointment
from ansible_collections.quiesce.storage.plugins.module_utils._appointment import (
    FLUSH,
    FORGOTTEN,
    FREEZE,
    LATE,
    Appointment,
)


class Clocks:
    """The wall's clock and ours, which go on together until one of them is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = 1_000_000.0
        self.ours = 50.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(_appointment, "now", lambda: self.ours)

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.ours += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def appointment(clocks: Clocks, ahead: float, flush: bool = True) -> Appointment:
    made = Appointment(clocks.wall + ahead, flush, 60)
    made.flushed(0.1)
    return made


def test_one_more_flush_and_then_the_freeze(clocks: Clocks) -> None:
    made = appointment(clocks, 10)
    assert made.step() == ""
    clocks.go_on(9.2)
    assert made.step() == FLUSH
    assert made.step() == ""
    made.flushed()
    clocks.go_on(0.3)
    assert made.step() == ""
    clocks.go_on(0.3)
    assert made.step() == FREEZE


def test_a_long_flush_is_begun_earlier(clocks: Clocks) -> None:
    made = appointment(clocks, 10)
    made.flushed(3.0)
    clocks.go_on(3.5)
    assert made.step() == FLUSH


def test_a_flush_that_does_not_end_in_time(clocks: Clocks) -> None:
    made = appointment(clocks, 1)
    clocks.go_on(0.5)
    assert made.step() == FLUSH
    clocks.go_on(0.6)
    assert made.step() == LATE


def test_without_a_flush(clocks: Clocks) -> None:
    made = appointment(clocks, 10, flush=False)
    clocks.go_on(9.6)
    assert made.step() == ""
    clocks.go_on(0.2)
    assert made.step() == FREEZE


def test_the_clock_is_set(clocks: Clocks) -> None:
    made = appointment(clocks, 10)
    clocks.wall += 3600
    assert made.step() == LATE
    clocks.wall -= 7200
    assert made.step() == ""


def test_no_time_is_agreed_on(clocks: Clocks) -> None:
    made = Appointment(0, True, 60)
    made.flushed(0.1)
    clocks.go_on(59)
    assert made.step() == ""
    clocks.go_on(2)
    assert made.step() == FORGOTTEN


def test_another_time(clocks: Clocks) -> None:
    made = Appointment(0, False, 60)
    assert made.move(clocks.wall + 5)
    assert not made.move(clocks.wall + 5)
    clocks.go_on(4.8)
    assert made.step() == FREEZE


def test_the_next_look_is_never_too_late(clocks: Clocks) -> None:
    made = appointment(clocks, 10)
    assert made.patience() == 0.1
    clocks.go_on(9.65)
    assert 0 < made.patience() < 0.06
    clocks.go_on(1)
    assert made.patience() == 0.0
