# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the fault table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import Lab

from .scene import Scene, scene


@pytest.fixture
def stage(lab: Lab, tmp_path: Path, turn: int) -> Iterator[Scene]:
    """Give a host of its own to each fault, with writers on it."""
    with scene(lab, tmp_path / "scene") as set_up:
        set_up.write()
        yield set_up
