# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which a set can be frozen: each before what it is stored on."""

from __future__ import annotations

from typing import Callable, Iterable


def levels(devices: Iterable[str], below: Callable[[str], set[str]]) -> list[tuple[str, int]]:
    """The devices in an order of freezing, each with its level, thawed from the highest down.

    ``below`` names what a device is stored on, all the way down. Members of one
    level are independent; among them the order given is kept.
    """
    chosen = list(dict.fromkeys(devices))
    above = {
        device: [other for other in chosen if other != device and device in below(other)]
        for device in chosen
    }
    # What carries others, directly or not, comes after all of them.
    level: dict[str, int] = {}
    for device in sorted(chosen, key=lambda each: len(above[each])):
        level[device] = max((level.get(other, 0) + 1 for other in above[device]), default=0)
    return sorted(level.items(), key=lambda item: (item[1], chosen.index(item[0])))
