# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the records of leases in tests say, and how they come there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MEMBER = {
    "path": "/srv",
    "mountpoint": "/srv",
    "source": "/dev/vdb",
    "fstype": "xfs",
    "device": "8:1",
    "method": "freeze",
}
ENDED = {"held": True, "thawed_by": "deadline", "frozen_seconds": 1.5, "reported": False}


def record(name: str = "x", **more: Any) -> dict[str, Any]:
    """A record as a guard writes it."""
    return {"lease": {"name": name}, "filesystems": [dict(MEMBER)], "ended": None, **more}


def put(folder: Path, name: str, content: bytes | dict[str, Any] | None) -> Path:
    """Make the folder of a lease with this record in it; None for none."""
    made = folder / f"lease-{name}"
    made.mkdir(mode=0o700)
    if content is not None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (made / "record").write_bytes(raw)
    return made
