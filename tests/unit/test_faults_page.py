# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the fault table tells what was measured, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from tests.tools.faults_page import page
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
