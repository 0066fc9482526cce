# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured and how often, by the environment."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field

from tests.kernel.lab import GIB, MIB

PARTS = ("pause", "tasks", "fleet")


class OutOfTime(Exception):
    """The time that was given is over; what has been measured is kept."""


@dataclass(frozen=True)
class Settings:
    """``runs`` of everything (``fleet_runs`` of what many hosts do), the ``parts``, the bytes that
    are ``dirty``, the sizes of the fleets in ``hosts``, and the monotonic time to stop at."""

    runs: int
    fleet_runs: int
    parts: tuple[str, ...]
    dirty: int
    hosts: tuple[int, ...]
    until: float = field(default=float("inf"))

    def say(self, sentence: str) -> None:
        """Tell how far it has come."""
        print(sentence, file=sys.stderr, flush=True)

    def check(self) -> None:
        """Raise OutOfTime where it is over."""
        if time.monotonic() > self.until:
            raise OutOfTime


def read() -> Settings:
    """Return the settings; SystemExit for one that makes no sense."""
    parts = tuple(_value("PARTS", ",".join(PARTS)).split(","))
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        sys.exit(
            f"QUIESCE_BENCH_PARTS: {', '.join(unknown)}: no part; there are {', '.join(PARTS)}"
        )
    try:
        seconds = float(_value("SECONDS", "0"))
        return Settings(
            runs=int(_value("RUNS", "7")),
            fleet_runs=int(_value("FLEET_RUNS", "3")),
            parts=parts,
            dirty=int(_value("DIRTY_MIB", str(GIB // MIB))) * MIB,
            hosts=tuple(int(each) for each in _value("HOSTS", "10,30,100").split(",")),
            until=time.monotonic() + seconds if seconds else float("inf"),
        )
    except ValueError as error:
        sys.exit(f"QUIESCE_BENCH_…: {error}")


def _value(name: str, default: str) -> str:
    return os.environ.get(f"QUIESCE_BENCH_{name}") or default
