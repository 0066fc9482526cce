# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and fixtures of the tests with real applications."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how many snapshots are taken under load."""
    parser.addoption("--snapshots", type=int, default=3, help="of each application under load")


@pytest.fixture
def snapshots(request: pytest.FixtureRequest) -> range:
    """Give the numbers of the snapshots to take."""
    return range(request.config.getoption("--snapshots"))
