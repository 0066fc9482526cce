# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet of ten thousand hosts costs, worked out from what smaller ones were seen to cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .records import spread

_HOSTS = 10_000
_SLICES = (1, 10, 50)


def thousands(records: Sequence[dict[str, Any]]) -> str:
    """Return the paragraph and the table, from the measurements of the part ``fleet``."""
    number = max(each["fleet"] for each in records)
    forks = max(each["forks"] for each in records)
    cpus = records[0]["cpus"]

    def seconds(play: str, hosts: int) -> float:
        key = {"fleet": number, "play": play, "hosts": hosts}
        found = [each for each in records if key.items() <= each.items()]
        if hosts > 1:
            found = [each for each in found if each["forks"] == forks]
        return spread(each["seconds"] for each in found).median

    base = seconds("snapshot", 1)
    each = (seconds("snapshot", number) - base) / max(1, number - 1)
    ping = (seconds("ping", number) - seconds("ping", 1)) / max(1, number - 1)
    rows = ""
    for slices in _SLICES:
        hosts = _HOSTS // slices
        total = base + (hosts - 1) * each
        rows += f"| {slices} | {hosts} | {total / 60:.0f} | {slices * cpus} |\n"
    return f"""\
One host takes {base:.1f} s, and each further one adds {each:.2f} s (`ping`: {ping:.2f} s), \
from the {number} hosts with {forks} forks above, hosts and controller together on {cpus} \
processors. So a play of *n* hosts in *k* slices, each on a controller of that size, takes

    {base:.1f} s + (n / k - 1) * {each:.2f} s

| slices | hosts in each | minutes | processors in all |
| ---: | ---: | ---: | ---: |
{rows}"""
