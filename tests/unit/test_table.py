# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the fault table counts when it is gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.table import Table, done, tidy

# Its file has to be there: a line counts for the code in it.
ROW = "tests/faults/test_guard.py::test_it"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a path for a table."""
    return tmp_path / "table.jsonl"


def passes(file: Path, test: str) -> None:
    table = Table(file, test)
    table.note("group", "fault", "the guard", 1.5)
    table.passed()


def test_what_has_passed_is_done(file: Path):
    passes(file, f"{ROW}[turn0-killed]")
    (line,) = tidy(file)
    asked = [f"{ROW}[turn{turn}-{how}]" for turn in (0, 1) for how in ("killed", "Ctrl-C")]
    assert done(file, asked) == {f"{ROW}[turn0-killed]"}
    assert (line["fault"], line["seconds"], line["since"]) == ("fault", [1.5], "the fault")


def test_a_row_is_one_line(file: Path):
    turns = [f"{ROW}[turn{turn}]" for turn in range(3)]
    for turn in turns:
        passes(file, turn)
        tidy(file)
    (line,) = map(json.loads, file.read_text().splitlines())
    assert (line["row"], line["turns"], line["seconds"]) == (f"{ROW}[]", [0, 1, 2], [1.5] * 3)
    assert done(file, turns) == set(turns)


def test_what_has_not_ended_is_not(file: Path):
    Table(file, f"{ROW}[turn0]").note("group", "fault", "the guard", 1.5)
    assert tidy(file) == []
    assert done(file, [f"{ROW}[turn0]"]) == set()


@pytest.mark.parametrize(
    ("passed", "failed", "left"),
    [
        (["[turn0]", "[turn1]"], "[turn2]", []),
        (["[turn0-killed]", "[turn0-Ctrl-C]"], "[turn1-killed]", ["[turn0-Ctrl-C]"]),
        (["[11-turn0-a-1]", "[11-turn12-a-2]"], "[11-turn0-a-2]", ["[11-turn0-a-1]"]),
    ],
)
def test_a_failure_is_one_of_the_row(file: Path, passed: list[str], failed: str, left: list[str]):
    tests = [ROW + turn for turn in passed]
    for test in tests:
        passes(file, test)
    tidy(file)
    Table(file, ROW + failed).failed()
    tidy(file)
    assert done(file, tests) == {ROW + turn for turn in left}


def test_other_code_counts_no_more(file: Path):
    passes(file, f"{ROW}[turn0]")
    line = {**json.loads(file.read_text()), "code": "another"}
    file.write_text(json.dumps(line) + "\n")
    assert tidy(file) == []
    assert file.read_text() == ""


def test_a_test_counts_for_its_own_file(file: Path):
    other = "tests/faults/test_host.py::test_it"
    for row in (ROW, other):
        passes(file, f"{row}[turn0]")
    assert len({line["code"] for line in tidy(file)}) == 2
