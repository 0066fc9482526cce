# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the fault table: every fault is repeated as often as asked, and measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import Lab

from .scene import Scene, scene
from .table import Table


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how often, and where to note it."""
    parser.addoption("--times", type=int, default=1, help="run each fault that many times")
    parser.addoption("--table", type=Path, help="file to add a line to for each fault")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat each fault; ``turn`` counts."""
    if "turn" in metafunc.fixturenames:
        metafunc.parametrize("turn", range(metafunc.config.getoption("--times")))


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """Give the table that measurements are noted in."""
    return Table(request.config.getoption("--table"))


@pytest.fixture
def stage(lab: Lab, tmp_path: Path, turn: int) -> Iterator[Scene]:
    """Give a host of its own to each fault, with writers on it."""
    with scene(lab, tmp_path / "scene") as set_up:
        set_up.write()
        yield set_up
