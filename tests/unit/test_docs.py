# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages about providers show can be copied: it is YAML, and names what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.sources import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("provider_*.md"))
ROLE = ROOT / "roles" / "consistent_snapshot"
PREFIX = "consistent_snapshot_"
# What the role gives to tasks, and its result.
GIVEN = {f"{PREFIX}{name}" for name in ("filesystems", "taken", "result")}


def options() -> set[str]:
    """The variables of the role."""
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
    return set(specs["argument_specs"]["main"]["options"])


def playbooks(page: Path) -> Iterator[Any]:
    """The playbooks on a page."""
    for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        yield yaml.safe_load(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_a_playbook(page: Path) -> None:
    ((play,),) = playbooks(page)
    include = play["tasks"][0]
    assert include["ansible.builtin.include_role"]["name"] == "quiesce.storage.consistent_snapshot"
    ours = {name for name in include["vars"] if name.startswith(PREFIX)}
    assert ours <= options()
    tasks = include["vars"].get(f"{PREFIX}tasks")
    if tasks is not None:
        assert (DOCS / "providers" / "tasks" / Path(tasks).name).is_file()


@pytest.mark.parametrize("page", [*PAGES, DOCS / "providers.md"], ids=lambda page: page.stem)
def test_a_page_names_what_there_is(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(rf"\b{PREFIX}[a-z0-9_]+", text))
    assert named <= options() | GIVEN
    for link in re.findall(r"\]\(([^):]+?)(?:#[^)]*)?\)", text):
        assert (DOCS / link).exists(), link


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "providers.md").read_text()
    assert [page.name for page in PAGES if f"]({page.name})" not in index] == []


def test_every_task_file_has_a_page() -> None:
    files = sorted((DOCS / "providers" / "tasks").glob("*.yml"))
    assert files
    for file in files:
        assert f"](providers/tasks/{file.name})" in (DOCS / f"provider_{file.stem}.md").read_text()
