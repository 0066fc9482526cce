# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault table: what is noted of each fault, and what is still to be tried.

It is a file of lines of JSON, to which several processes append. A test that has passed has lines;
one that has failed has a line that says so, and what its row had counts no more: a row passes so
many times in a row, or not. A line counts for the code that it was measured of: the collection,
what all these tests rest on, and the file of the test itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tests.measured import code, helpers

# Of a test's name.
_TURN = re.compile(r"turn(\d+)-?")
_FOLDERS = ("tests/faults", "tests/hosts", "tests/vm")
_EACH = ("turns", "seconds")


def turn_of(test: str) -> int:
    """Return the how-manieth of its row a test is, from 0 on."""
    turn = _TURN.search(test)
    return int(turn[1]) if turn else 0


class Try(NamedTuple):
    """One test: which row it is of, and the how-manieth of that row."""

    row: str
    turn: int

    @classmethod
    def of(cls, test: str) -> Try:
        return cls(_TURN.sub("", test, count=1), turn_of(test))


class Table:
    """What one test notes; nothing is kept where ``path`` is None."""

    def __init__(self, path: Path | None, test: str) -> None:
        self._path = path
        self._try = Try.of(test)
        self._noted: list[dict[str, Any]] = []

    def note(
        self, group: str, fault: str, thawed_by: str, seconds: float, since: str = "the fault"
    ) -> None:
        """Note one fault that was survived: what happened, who thawed, and when that was.

        :param seconds: counted from ``since``: the fault, a request, or the host's own deadline.
        """
        told = {"group": group, "fault": fault, "thawed_by": thawed_by, "since": since}
        self._noted.append({**told, "turns": [self._try.turn], "seconds": [round(seconds, 4)]})

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
        line = {"row": self._try.row, "code": _code(self._try.row), **line}
        with _alone(self._path) as file:
            file.write(json.dumps(line) + "\n")


def tidy(path: Path) -> list[dict[str, Any]]:
    """Leave in a table what counts, a line for each row, and return that.

    It is what was measured of this code, of rows that have not failed since.
    """
    rows: dict[str, dict[str, Any]] = {}
    with _alone(path) as file:
        for line in sorted(_counting(_lines(file)), key=lambda line: str(line["row"])):
            same = json.dumps([value for name, value in line.items() if name not in _EACH])
            whole = rows.setdefault(same, {**line, "turns": [], "seconds": []})
            for name in _EACH:
                whole[name] += line[name]
        file.truncate(0)
        file.writelines(f"{json.dumps(line)}\n" for line in rows.values())
    return list(rows.values())


def done(path: Path, tests: Iterable[str]) -> set[str]:
    """Return which of these tests need not be tried again."""
    with _alone(path) as file:
        lines = _lines(file)
    known = {Try(line["row"], turn) for line in lines for turn in line.get("turns", ())}
    return {test for test in tests if Try.of(test) in known}


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[TextIO]:
    """Open a table, to read and to append, while no other process does."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _lines(file: TextIO) -> list[dict[str, Any]]:
    file.seek(0)
    return [json.loads(line) for line in file]


def _counting(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    of_this = [line for line in lines if line["code"] == _code(line["row"])]
    failed = {line["row"] for line in of_this if line.get("failed")}
    return (line for line in of_this if line["row"] not in failed)


def _code(row: str) -> str:
    return code(*helpers(*_FOLDERS), row.partition("::")[0])
