# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests on real filesystems."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.guarded import LEASE, Frozen
from tests.kernel.lab import FSTYPES, Filesystem, Lab
from tests.kernel.modules import thaw
from tests.kernel.processes import of_lease, wait_for


@pytest.fixture(params=FSTYPES)
def filesystem(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Filesystem]:
    """Give a fresh, mounted filesystem, once for each type."""
    with lab.filesystem(request.param) as made:
        yield made


@pytest.fixture
def frozen(filesystem: Filesystem) -> Iterator[Frozen]:
    held = Frozen(filesystem)
    assert held.state() == "frozen"
    try:
        yield held
    finally:
        held.close()
        thaw(filesystem)
        wait_for(lambda: not of_lease(LEASE), 5)
