# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault table: what is noted of each fault, and what is still to be tried.

It is a file of lines of JSON, to which several processes append. A test that has passed has lines;
one that has failed has a line that says so, and what its row had counts no more: a row passes so
many times in a row, or not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.measured import code

# Of a test's name.
_TURN = re.compile(r"turn\d+-?")


@dataclass(frozen=True)
class Measured:
    """One fault, once: what happened, who thawed, and when that was.

    ``seconds`` count from ``since``: the fault, the thaw's request, or the host's own deadline.
    """

    group: str
    fault: str
    thawed_by: str
    seconds: float
    since: str


class Table:
    """What one test notes; nothing is kept where ``path`` is None."""

    def __init__(self, path: Path | None, test: str) -> None:
        self._path = path
        self._test = test
        self._noted: list[dict[str, Any]] = []

    def note(
        self, group: str, fault: str, thawed_by: str, seconds: float, since: str = "the fault"
    ) -> None:
        """Note one fault that was survived."""
        self._noted.append(asdict(Measured(group, fault, thawed_by, round(seconds, 4), since)))

    def passed(self) -> None:
        """Keep what was noted."""
        for each in self._noted:
            self._add(each)

    def failed(self) -> None:
        """Keep that it failed."""
        self._add({"failed": True})

    def _add(self, line: dict[str, Any]) -> None:
        if self._path is None:
            return
        line = {**line, "test": self._test, "code": _code()}
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(fd, (json.dumps(line) + "\n").encode())
        finally:
            os.close(fd)


def forget(path: Path) -> None:
    """Leave in a table what counts: of this code, and of rows that have not failed since."""
    if path.exists():
        path.write_text("".join(f"{json.dumps(line)}\n" for line in _counting(_lines(path))))


def done(path: Path) -> set[str]:
    """Return the tests that need not be tried again."""
    return {line["test"] for line in _lines(path)} if path.exists() else set()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _counting(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    of_this = [line for line in lines if line["code"] == _code()]
    failed = {_row(line["test"]) for line in of_this if line.get("failed")}
    return (line for line in of_this if _row(line["test"]) not in failed)


def _row(test: str) -> str:
    return _TURN.sub("", test, count=1)


def _code() -> str:
    return code("tests/faults", "tests/hosts", "tests/vm")
