# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: how often properties are tried, and the lab of real filesystems."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from hypothesis import HealthCheck, settings

from tests.faults.table import Table, done, tidy, turn_of
from tests.kernel.lab import TOOLS, Lab, leftovers, open_lab

# How many examples of a property are tried: few in `make unit`, many in `make test-fuzz`.
# Fixtures that point a module elsewhere hold for all examples of a test alike.
_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

# The same few examples every time: what passes today must not fail tomorrow by chance.
settings.register_profile(
    "quick", max_examples=50, deadline=None, derandomize=True, suppress_health_check=_SHARED
)
settings.register_profile(
    "long", max_examples=10_000, deadline=None, suppress_health_check=_SHARED, print_blob=True
)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say where labs are; and for the fault table how often, and where to note it."""
    parser.addoption("--labs", type=Path, default=Path("/var/tmp"), help="folder for their disks")
    parser.addoption("--times", type=int, default=1, help="run each fault that many times")
    parser.addoption("--table", type=Path, help="file to add a line to for each fault, once")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with what counts of an earlier run."""
    table = config.getoption("--table")
    if table is not None and not hasattr(config, "workerinput"):
        tidy(table)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the faults that are in the table; each of the others once, then each once more."""
    items.sort(key=lambda item: turn_of(item.nodeid))
    path = config.getoption("--table")
    known = done(path, [item.nodeid for item in items]) if path is not None else set()
    left_out = [item for item in items if item.nodeid in known]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.nodeid not in known]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat each fault; ``turn`` counts."""
    if "turn" in metafunc.fixturenames:
        turns = range(metafunc.config.getoption("--times"))
        metafunc.parametrize("turn", turns, ids=[f"turn{number}" for number in turns])


_TABLE = pytest.StashKey[Table]()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """Give the table that measurements are noted in."""
    made = Table(request.config.getoption("--table"), request.node.nodeid)
    request.node.stash[_TABLE] = made
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep in the table how a fault has ended."""
    report = yield
    if _TABLE in item.stash:
        if report.failed:
            item.stash[_TABLE].failed()
        elif report.when == "teardown":
            item.stash[_TABLE].passed()
    return report


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder that stands for /run/quiesce."""
    folder = tmp_path / "quiesce"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(_lease, "RUN", str(folder))
    return folder


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Give the one lab of this run; fail the run if it cannot be had or leaves anything behind."""
    if os.geteuid() != 0:
        pytest.exit("these tests freeze real filesystems and need root", returncode=1)
    missing = [f"{tool} ({package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        pytest.exit(f"these tests need {', '.join(missing)}", returncode=1)
    with open_lab(request.config.getoption("--labs")) as opened:
        yield opened
    assert not leftovers(opened.folder)
