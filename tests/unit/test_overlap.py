# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interval in which all of a group was frozen, and what is no proof of one."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.filter.overlap import overlap

ONE: dict[str, Any] = {
    "host": "one",
    "frozen_by": 10.0,
    "thaw_from": 14.0,
    "held": True,
    "complete_at": "1970-01-01T00:00:09.500000Z",
    "offset": 0.0,
    "uncertainty": 0.01,
}
OTHER = {**ONE, "host": "other", "frozen_by": 11.0, "thaw_from": 15.0}


def test_from_the_last_freeze_to_the_first_thaw() -> None:
    found = overlap([ONE, OTHER])
    assert found["proven"] is True
    assert found["from"] == "1970-01-01T00:00:11.000000Z"
    assert found["until"] == "1970-01-01T00:00:14.000000Z"
    assert found["seconds"] == 3.0
    assert found["hosts"] == ["one", "other"]


@pytest.mark.parametrize(
    "change",
    [
        {"held": False},
        {"held": None},
        {"frozen_by": None},
        {"thaw_from": None},
        {"frozen_by": 14.0},
        {"thaw_from": 9.0},
    ],
)
def test_no_proof(change: dict[str, Any]) -> None:
    assert overlap([ONE, {**OTHER, **change}])["proven"] is False


def test_nobody() -> None:
    found = overlap([])
    assert (found["proven"], found["from"], found["seconds"]) == (False, None, 0.0)


def test_how_far_apart() -> None:
    # Its clock is a second ahead, and so it froze at 9.6 s.
    late = {**OTHER, "complete_at": "1970-01-01T00:00:10.600000Z", "offset": 1.0}
    found = overlap([ONE, late])
    assert found["spread_seconds"] == pytest.approx(0.1)
    assert found["spread_uncertainty"] == pytest.approx(0.02)


@pytest.mark.parametrize("lacks", ["complete_at", "offset"])
def test_how_far_apart_is_not_known(lacks: str) -> None:
    found = overlap([ONE, {**OTHER, lacks: None}])
    assert found["spread_seconds"] is None
    assert found["spread_uncertainty"] is None
    assert found["proven"] is True
