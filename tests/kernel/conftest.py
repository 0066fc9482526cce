# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests on real filesystems."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.kernel.lab import FSTYPES, TOOLS, Filesystem, Lab, leftovers, open_lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Give the one lab of this run; fail the run if it cannot be had or leaves anything behind."""
    if os.geteuid() != 0:
        pytest.exit("the kernel tests freeze real filesystems and need root", returncode=1)
    missing = [f"{tool} ({package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        pytest.exit(f"the kernel tests need {', '.join(missing)}", returncode=1)
    with open_lab() as opened:
        yield opened
    assert not leftovers(opened.folder)


@pytest.fixture(params=FSTYPES)
def filesystem(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Filesystem]:
    """Give a fresh, mounted filesystem, once for each type."""
    with lab.filesystem(request.param) as made:
        yield made
