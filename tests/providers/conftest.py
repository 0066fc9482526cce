# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose filesystems a cloud has volumes for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene, scene
from tests.kernel.lab import Lab

from .amazon import CREDENTIALS, Amazon, open_amazon

# Seconds after which a host is thawed from outside, whatever has happened.
_LONGEST = 600


@pytest.fixture
def stage(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    """Give a host of its own to each test."""
    with scene(lab, tmp_path / "scene") as set_up:
        # A play that calls a cloud takes longer than those that a scene is made for.
        set_up.host.thaw()
        set_up.host.arm_thaw(_LONGEST)
        yield set_up


@pytest.fixture
def amazon(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Amazon]:
    """Give a region of EC2, which sees what is frozen on the host when it is called."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with open_amazon(stage.host.frozen) as region:
        yield region
