# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots go: the filter ``expired``, by a table of cases."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.quiesce.storage.plugins.filter.expired import FilterModule, expired

NOW = "2026-11-20T12:00:00Z"


def snapshots(text: str) -> list[dict[str, Any]]:
    """Snapshots of November, ``DAY`` or ``DAYv`` (verified) or ``DAYx`` (not trusted)."""
    found: list[dict[str, Any]] = []
    for word in text.split():
        day, mark = word.rstrip("vx"), word[-1]
        found.append(
            {
                "name": day,
                "created": f"2026-11-{int(day):02}T12:00:00.123456Z",
                "verified": {"v": True, "x": False}.get(mark),
                "trusted": mark != "x",
            }
        )
    return found


@pytest.mark.parametrize(
    ("there", "limits", "gone"),
    [
        ("", {"keep": 1, "age": "1s"}, ""),
        # No limit.
        ("1v 2v 3v", {}, ""),
        ("1v 2v 3v", {"keep": 0, "age": ""}, ""),
        ("1v 2v 3v", {"keep": "0"}, ""),
        # By count.
        ("1v 2v 3v", {"keep": 3}, ""),
        ("1v 2v 3v", {"keep": 2}, "1"),
        ("1v 2v 3v", {"keep": 1}, "1 2"),
        ("1v 2v 3v", {"keep": "2"}, "1"),
        ("3v 1v 2v", {"keep": 1}, "1 2"),
        ("9v 10v 8v", {"keep": 1}, "8 9"),
        # By age. Exactly as old is not older.
        ("1v 19v 20v", {"age": "1d"}, "1"),
        ("1v 19v 20v", {"age": "2d"}, "1"),
        ("1v 18v 19v 20v", {"age": "47h"}, "1 18"),
        ("1v 13v 20v", {"age": "1w"}, "1"),
        ("1v 12v 20v", {"age": "1w"}, "1 12"),
        ("1v 19v 20v", {"age": "2879m"}, "1"),
        ("18v 19v 20v", {"age": "90000s"}, "18"),
        ("1v 2v 20v", {"age": "999999999w"}, ""),
        # By either.
        ("1v 2v 18v 19v 20v", {"keep": 4, "age": "7d"}, "1 2"),
        ("1v 2v 18v 19v 20v", {"keep": 2, "age": "7d"}, "1 2 18"),
        # Never the last verified one, be it how old it may.
        ("1v 2v 18 19 20", {"keep": 2}, "1 18"),
        ("1v 2v 18 19 20", {"age": "1d"}, "1 18"),
        ("1v 2 3x", {"keep": 1}, "2"),
        ("1v 2 3x", {"age": "1d"}, "2 3"),
        # Where none is verified, the newest one that is trusted.
        ("1 2 3", {"age": "1d"}, "1 2"),
        ("1 2x 3x", {"keep": 1}, "2"),
        ("1x 2x 3x", {"keep": 1}, "1 2"),
        ("1x 2x 3x", {"age": "1d"}, "1 2 3"),
        # Never the one just taken; if that is verified, it is the last one.
        ("1v 2v 3", {"keep": 1, "current": "3"}, "1"),
        ("1v 2v 3v", {"keep": 1, "current": "3"}, "1 2"),
        ("1v 2v 3x", {"age": "1d", "current": "3"}, "1"),
        ("1v 2v 3v", {"keep": 2, "current": "1"}, "2"),
        # A clock that was set back: the one just taken seems older than the others, which
        # seem to come from the future. It still counts as the newest.
        ("1v 25v 26v", {"keep": 2, "current": "1"}, "25"),
        ("1v 25v 26v", {"age": "1d", "current": "1"}, ""),
    ],
)
def test_what_goes(there: str, limits: dict[str, Any], gone: str) -> None:
    records = snapshots(there)
    assert expired(records, **{"now": NOW, **limits}) == gone.split()
    random.Random(0).shuffle(records)
    assert expired(records, **{"now": NOW, **limits}) == gone.split()


def test_of_one_moment_the_name_decides() -> None:
    records = [{**each, "created": NOW} for each in snapshots("1 2 3")]
    assert expired(records, keep=2, now=NOW) == ["1"]


def test_what_is_not_known_of_a_record_is_not_so() -> None:
    records = [{"name": name, "created": NOW} for name in "abc"]
    assert expired(records, keep=1, now=NOW) == ["a", "b"]


@pytest.mark.parametrize(
    "created", ["2026-11-01T12:00:00Z", "2026-11-01T13:00:00+01:00", "2026-11-01T12:00:00"]
)
def test_times(created: str) -> None:
    records = [{"name": "old", "created": created}, *snapshots("20v")]
    assert expired(records, age="19d", now=NOW) == []
    assert expired(records, age="455h", now=NOW) == ["old"]


def test_by_default_it_is_now() -> None:
    records = [{"name": name, "created": "2001-01-01T00:00:00Z"} for name in "ab"]
    assert expired(records, age="1d") == ["a", "b"]


@pytest.mark.parametrize("keep", [-1, "-1", "many", "", 1.5, None, True])
def test_a_count_that_is_none(keep: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="it is a number of snapshots"):
        expired([], keep=keep)


@pytest.mark.parametrize("age", ["14", "d", "14x", "-1d", "1d2h", " 1d", "1 d", "1.5d", "1d\n"])
def test_an_age_that_is_none(age: str) -> None:
    with pytest.raises(AnsibleFilterError, match="such as 14d"):
        expired([], age=age)


def test_a_time_that_is_none() -> None:
    with pytest.raises(AnsibleFilterError, match="'yesterday' is no time"):
        expired([{"name": "a", "created": "yesterday"}], keep=1)


def test_it_is_given_to_ansible() -> None:
    assert FilterModule().filters() == {"expired": expired}
