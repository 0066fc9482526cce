# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the fault table counts when it is gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.table import Table, done, forget

ROW = "tests/faults/test_one.py::test_it"


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
    forget(file)
    assert done(file) == {f"{ROW}[turn0-killed]"}
    (line,) = map(json.loads, file.read_text().splitlines())
    assert (line["fault"], line["seconds"], line["since"]) == ("fault", 1.5, "the fault")


def test_what_has_not_ended_is_not(file: Path):
    Table(file, f"{ROW}[turn0]").note("group", "fault", "the guard", 1.5)
    forget(file)
    assert done(file) == set()


@pytest.mark.parametrize(
    ("passed", "failed", "left"),
    [
        (["[turn0]", "[turn1]"], "[turn2]", []),
        (["[turn0-killed]", "[turn0-Ctrl-C]"], "[turn1-killed]", ["[turn0-Ctrl-C]"]),
        (["[11-turn0-a-1]", "[11-turn12-a-2]"], "[11-turn0-a-2]", ["[11-turn0-a-1]"]),
    ],
)
def test_a_failure_is_one_of_the_row(file: Path, passed: list[str], failed: str, left: list[str]):
    for turn in passed:
        passes(file, ROW + turn)
    Table(file, ROW + failed).failed()
    forget(file)
    assert done(file) == {ROW + turn for turn in left}


def test_other_code_counts_no_more(file: Path):
    passes(file, f"{ROW}[turn0]")
    line = {**json.loads(file.read_text()), "code": "another"}
    file.write_text(json.dumps(line) + "\n")
    forget(file)
    assert done(file) == set()
