# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine of each release for all tests; the releases are named by QUIESCE_VM_RELEASES."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import Machine, open_machine
from tests.vm.scene import Scene

_RELEASES = [int(word) for word in (os.environ.get("QUIESCE_VM_RELEASES") or "12").split(",")]


@pytest.fixture(scope="session", params=_RELEASES, ids=[f"debian{n}" for n in _RELEASES])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Give the machine of this run, as the test before has left it."""
    with open_machine(request.param) as opened:
        yield opened


@pytest.fixture
def vm(machine: Machine) -> Machine:
    """Give a machine that is as if it had just booted."""
    machine.restore()
    return machine


@pytest.fixture
def scene(vm: Machine, tmp_path: Path, turn: int) -> Scene:
    """Give a machine whose /data is being written to."""
    made = Scene(vm, tmp_path / "scene")
    made.write()
    return made
