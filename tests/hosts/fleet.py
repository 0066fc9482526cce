# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet: test hosts that differ as those of a real one do, started and stopped side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.kernel.lab import Lab

from .host import Host, open_host
from .image import host_image

PYTHONS = {"bullseye": "3.9", "bookworm": "3.11", "trixie": "3.13"}
"""The Debian releases of a fleet, and the Python of each."""

# Filesystems beside the root.
_LAYOUTS: tuple[Mapping[str, str], ...] = (
    {},
    {"/tmp": "ext4", "/var": "ext4"},
    {"/tmp": "ext4", "/var": "ext4", "/data": "xfs"},
)
# Most of a start is waiting for the kernel, so more at once than there are processors.
_AT_ONCE = 4 * (os.cpu_count() or 1)


@dataclass(frozen=True)
class Plan:
    """What a host of a fleet is to be: its name, its Debian release, its separate filesystems."""

    name: str
    suite: str
    separate: Mapping[str, str]


def plans(number: int) -> list[Plan]:
    """Plan ``number`` hosts: of each three, one of each release and one of each layout.

    From three to three the layouts move on by one, so that each release gets each of them.
    """
    suites = list(PYTHONS)
    return [
        Plan(
            f"host{index + 1:0{len(str(number))}}",
            suites[index % len(suites)],
            _LAYOUTS[(index + index // len(_LAYOUTS)) % len(_LAYOUTS)],
        )
        for index in range(number)
    ]


@contextmanager
def open_fleet(lab: Lab, planned: list[Plan]) -> Iterator[list[Host]]:
    """Start these hosts, in this order, and take all of them down at the end of the block.

    :raises LabError: a tool failed, or a host did not come up.
    """
    opened: list[AbstractContextManager[Host]] = []

    def start(plan: Plan) -> Host:
        opening = open_host(
            lab,
            suite=plan.suite,
            separate=list(plan.separate),
            fstypes=plan.separate,
            name=plan.name,
        )
        host = opening.__enter__()
        opened.append(opening)
        return host

    def stop(opening: AbstractContextManager[Host]) -> None:
        opening.__exit__(None, None, None)

    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        list(pool.map(host_image, sorted({plan.suite for plan in planned})))
        yield list(pool.map(start, planned))
    finally:
        pool.shutdown(cancel_futures=True)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(stop, opened))
