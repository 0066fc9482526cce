# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the fault table tells what was measured, and nothing else; and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.table import Table
from tests.tools.faults_page import lacks, main, page
from tests.unit.sources import ROOT

MEASURED = ROOT / "tests" / "faults" / "measured.jsonl"


def line(fault: str, *seconds: float, group: str = "guard", since: str = "fault") -> dict[str, Any]:
    told = {"group": group, "fault": fault, "thawed_by": "the second process", "since": since}
    return {**told, "seconds": list(seconds)}


def test_a_row_has_its_times_its_median_and_its_longest() -> None:
    assert (
        "| killed | the second process | 3 | 0.020 | 0.700 | the fault |"
        in page([line("killed", 0.02, 0.01, 0.7)]).splitlines()
    )


def test_what_seconds_count_from_has_one_article() -> None:
    text = page([line("hangs", 1.0, since="that timeout"), line("killed", 1.0, since="the fault")])
    assert "| that timeout |" in text
    assert "| the fault |" in text


def test_one_fault_on_several_machines_is_one_row() -> None:
    text = page([line("killed", 0.02, 0.01), line("killed", 0.03)])
    assert "| killed | the second process | 3 | 0.020 | 0.030 |" in text


def test_groups_come_in_one_order_whatever_was_measured_first() -> None:
    text = page([line("b", 1, group="hands"), line("a", 1, group="controller")])
    assert text.index("## The controller ends") < text.index("## Somebody does something by hand")


def test_the_page_is_of_the_table_that_is_kept() -> None:
    lines = [json.loads(each) for each in MEASURED.read_text().splitlines()]
    # `make faults-page` makes it anew.
    assert (ROOT / "docs" / "faults.md").read_text() == page(lines)


# Its file has to be there: a line counts for the code in it.
ROW = "tests/faults/test_guard.py::test_it"
TESTS = [f"{ROW}[turn{turn}-{how}]" for turn in range(3) for how in ("killed", "stopped")]


def measured(path: Path, *tests: str) -> Path:
    """A table in which these have passed."""
    for test in tests:
        table = Table(path, test)
        table.note("guard", "fault", "the guard", 1.5)
        table.passed()
    return path


def test_a_table_that_has_each_turn_lacks_nothing(tmp_path: Path) -> None:
    table = measured(tmp_path / "table", *TESTS)
    assert lacks(table, TESTS, []) == []


def test_each_row_says_how_many_turns_it_lacks(tmp_path: Path) -> None:
    table = measured(tmp_path / "table", *TESTS[:3])
    before = table.read_text()
    told = [f"{ROW}[killed]: lacks 1 of 3 turns", f"{ROW}[stopped]: lacks 2 of 3 turns"]
    assert sorted(lacks(table, TESTS, [])) == told
    # It is not even tidied.
    assert table.read_text() == before


def test_a_row_that_has_failed_since_lacks_all_of_it(tmp_path: Path) -> None:
    table = measured(tmp_path / "table", *TESTS)
    Table(table, TESTS[4]).failed()
    assert lacks(table, TESTS, []) == [f"{ROW}[killed]: lacks 3 of 3 turns (3 do not count)"]


def test_what_other_code_has_passed_is_lacking(tmp_path: Path) -> None:
    table = measured(tmp_path / "table", *TESTS[:3:2])
    table.write_text(table.read_text().replace('"code": "', '"code": "other'))
    measured(table, TESTS[4], *TESTS[1::2])
    told = [f"{ROW}[killed]: lacks 2 of 3 turns (2 do not count)"]
    assert lacks(table, TESTS, []) == told


def test_a_row_of_no_test_is_told_unless_it_may_be_there(tmp_path: Path) -> None:
    other = f"{ROW}[debian13-turn0]"
    table = measured(tmp_path / "table", *TESTS, f"{ROW}[turn0-renamed]", other)
    told = [f"{ROW}[renamed]: was measured, and there is no such test"]
    assert lacks(table, TESTS, [other]) == told


@pytest.mark.parametrize(
    ("tests", "status"), [(TESTS, 0), ([*TESTS, f"{ROW}[turn3-killed]"], 1), ([], 1)]
)
def test_the_command_fails_where_something_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tests: list[str], status: int
) -> None:
    files = [measured(tmp_path / "table", *TESTS), tmp_path / "tests", tmp_path / "others"]
    for file, some in zip(files[1:], (tests, TESTS), strict=True):
        file.write_text("".join(f"{each}\n" for each in some) + "\n6 tests collected\n")
    assert main("complete", *map(str, files)) == status
    assert ("lacks 1 of 4 turns" in capsys.readouterr().out) is (len(tests) > len(TESTS))
