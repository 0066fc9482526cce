# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirror the working tree into a folder: copy what differs, remove what is gone.

ansible-test accepts a collection only at a real path ending in
``ansible_collections/NAMESPACE/NAME``, which a checkout seldom has.

Usage: stage.py FROM TO
"""

from __future__ import annotations

import filecmp
import shutil
import sys
from pathlib import Path

# What no tool should see. At the top of the tree only:
TOP = {".git", ".cache", ".ansible", "collections", "tests/output"}
# Anywhere:
ANYWHERE = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}


def wanted(root: Path, folder: Path) -> set[Path]:
    """Return the paths of all files below folder that belong into a copy, relative to root."""
    found: set[Path] = set()
    for entry in folder.iterdir():
        relative = entry.relative_to(root)
        if entry.name in ANYWHERE or str(relative) in TOP:
            continue
        if entry.is_dir() and not entry.is_symlink():
            found |= wanted(root, entry)
        elif entry.is_file() or entry.is_symlink():
            found.add(relative)
    return found


def mirror(source: Path, target: Path) -> None:
    """Make target a copy of source."""
    files = wanted(source, source)
    if target.is_dir():
        for stale in wanted(target, target) - files:
            (target / stale).unlink()
            # An empty folder would still be seen by some tools.
            for folder in (target / stale).parents:
                if folder == target or any(folder.iterdir()):
                    break
                folder.rmdir()
    for relative in sorted(files):
        old, new = source / relative, target / relative
        if new.is_file() and not new.is_symlink() and filecmp.cmp(old, new, shallow=False):
            shutil.copymode(old, new)
            continue
        new.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        shutil.copy2(old, new, follow_symlinks=False)


if __name__ == "__main__":
    mirror(Path(sys.argv[1]), Path(sys.argv[2]))
