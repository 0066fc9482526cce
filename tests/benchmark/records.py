# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw figures, a line of JSON for each measurement: what is there is not measured again."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.measured import code


class Records:
    """The measurements of one part, taken of this code on this kernel.

    Those of other code, or of another kernel, are forgotten when the file is opened.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._of = {"code": code(), "kernel": platform.release()}
        lines = file.read_text().splitlines() if file.exists() else []
        self.all: list[dict[str, Any]] = [json.loads(line) for line in lines]
        if any({key: each.get(key) for key in self._of} != self._of for each in self.all):
            self.all = []
            file.unlink()

    def has(self, **key: Any) -> bool:
        """Whether there is a measurement of this key."""
        return bool(self.of(**key))

    def of(self, **key: Any) -> list[dict[str, Any]]:
        """Return the measurements whose members include these."""
        return [each for each in self.all if key.items() <= each.items()]

    def add(self, **measured: Any) -> None:
        """Keep one."""
        at = datetime.now(UTC).strftime("%Y-%m-%d")
        whole = {**self._of, "date": at, "cpus": os.cpu_count(), **measured}
        self.all.append(whole)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as stream:
            stream.write(json.dumps(whole) + "\n")


class Spread(NamedTuple):
    """The median of some figures, the least of them and the greatest."""

    median: float
    least: float
    greatest: float


def spread(figures: Iterable[float]) -> Spread:
    """Sum some figures up; there is one at least."""
    known = list(figures)
    return Spread(statistics.median(known), min(known), max(known))
