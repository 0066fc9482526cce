# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of freezing: each before what it is stored on."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._order import levels


def all_below(stored_on: dict[str, str], device: str) -> set[str]:
    """What is below a device, all the way down, from what each is stored on directly."""
    found: set[str] = set()
    for below in stored_on.get(device, ""):
        found |= {below} | all_below(stored_on, below)
    return found


@pytest.mark.parametrize(
    ("chosen", "stored_on", "expected"),
    [
        ("", {}, []),
        ("a", {}, [("a", 0)]),
        # Independent: all at once, in the order given.
        ("cab", {}, [("c", 0), ("a", 0), ("b", 0)]),
        ("aabab", {}, [("a", 0), ("b", 0)]),
        # A chain, given in any order.
        ("abc", {"a": "b", "b": "c"}, [("a", 0), ("b", 1), ("c", 2)]),
        ("cba", {"a": "b", "b": "c"}, [("a", 0), ("b", 1), ("c", 2)]),
        # A link of the chain is not in the set; what is below it still comes later.
        ("ca", {"a": "b", "b": "c"}, [("a", 0), ("c", 1)]),
        # A diamond.
        ("dcba", {"a": "bc", "b": "d", "c": "d"}, [("a", 0), ("c", 1), ("b", 1), ("d", 2)]),
        # A long way and a short way to the same disk: the longest counts.
        ("dcba", {"a": "bd", "b": "c", "c": "d"}, [("a", 0), ("b", 1), ("c", 2), ("d", 3)]),
        # Two stacks side by side.
        ("abxy", {"a": "b", "x": "y"}, [("a", 0), ("x", 0), ("b", 1), ("y", 1)]),
        # Two on one.
        ("zab", {"a": "z", "b": "z"}, [("a", 0), ("b", 0), ("z", 1)]),
    ],
)
def test_levels(chosen: str, stored_on: dict[str, str], expected: list[tuple[str, int]]) -> None:
    assert levels(chosen, lambda device: all_below(stored_on, device)) == expected


def test_every_order_of_paths_freezes_what_is_above_first() -> None:
    stored_on = {"a": "bc", "b": "d", "c": "d", "d": "e", "x": "e", "y": ""}
    for chosen in itertools.permutations("abcdexy"):
        found = levels(chosen, lambda device: all_below(stored_on, device))
        level = dict(found)
        order = [device for device, _level in found]
        assert sorted(order) == sorted(chosen)
        for device in chosen:
            for below in all_below(stored_on, device):
                assert order.index(device) < order.index(below)
                assert level[device] < level[below]


def test_nonsense_ends() -> None:
    """Nothing is stored on itself; a table that says so must not keep anybody waiting."""
    assert {device for device, _level in levels("ab", lambda _device: {"a", "b"})} == {"a", "b"}
