# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filesystem that a guard holds, for tests of that guard."""

from __future__ import annotations

import os
import socket
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel.lab import Filesystem
from tests.kernel.modules import freeze
from tests.kernel.processes import wait_for

LEASE = "guarded"


class Frozen:
    """A filesystem frozen under ``LEASE``, and a look at the kernel that takes microseconds."""

    def __init__(self, filesystem: Filesystem, timeout: int = 30) -> None:
        self.answer = freeze(filesystem, lease=LEASE, timeout=timeout)
        self.guard = int(self.answer["lease"]["guard_pid"])
        self.filesystem = filesystem
        self._reader = Reader()
        self._fd = os.open(filesystem.mountpoint, os.O_RDONLY)

    def state(self) -> str:
        return self._reader.state(self._fd)

    def thaws_within(self, seconds: float) -> float:
        return wait_for(lambda: self.state() == "thawed", seconds)

    def close(self) -> None:
        os.close(self._fd)


def connected(lease: str = LEASE) -> socket.socket:
    """A connection to the guard."""
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(10)
    line.connect(f"/run/quiesce/lease-{lease}/socket")
    return line


def begun(phase: str) -> int:
    """Wait until a guard is in that phase; its pid. An earlier test may have left a record."""
    found: dict[str, Any] = {}

    def seen() -> bool:
        found.update(_lease.read(LEASE) or {})
        return bool(found) and not found["ended"] and found["phase"] == phase

    wait_for(seen, 20)
    return int(found["lease"]["guard_pid"])
