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
    """Hash the code of the collection, and of these folders and files of the repository.

    Each is read once. What ``more`` names is relative to the repository.
    """
    digest = hashlib.sha256()
    for name in (*_SHIPPED, *more):
        whole = _REPOSITORY / name
        for file in sorted(whole.rglob("*")) if whole.is_dir() else [whole]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(str(file.relative_to(_REPOSITORY)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def helpers(*folders: str) -> tuple[str, ...]:
    """Return the files of these folders that are no tests: what all the tests in them rest on."""
    found = [file for name in folders for file in sorted((_REPOSITORY / name).rglob("*"))]
    return tuple(
        str(file.relative_to(_REPOSITORY))
        for file in found
        if file.suffix in (".py", ".sh", ".yml") and not file.name.startswith("test_")
    )
