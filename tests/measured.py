# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a measurement is of: it counts for as long as this stays the same."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]
_SHIPPED = ("plugins", "roles", "playbooks")


@functools.cache
def code(*more: str) -> str:
    """Hash the code of the collection, and of these folders of the repository; read once."""
    digest = hashlib.sha256()
    for name in (*_SHIPPED, *more):
        for file in sorted((_REPOSITORY / name).rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                digest.update(str(file.relative_to(_REPOSITORY)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]
