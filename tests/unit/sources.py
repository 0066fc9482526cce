# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source files of the collection, and who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The folder that has ansible_collections in it.
COLLECTION = ROOT / "collections"
PACKAGE = "ansible_collections.quiesce.storage.plugins.module_utils"
MODULE_UTILS = sorted(path.stem for path in (ROOT / "plugins" / "module_utils").glob("*.py"))
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full name of everything that a file imports, at its top or anywhere else."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def siblings(name: str) -> set[str]:
    """The files of module_utils that one of them imports."""
    found = set()
    for full in imported(ROOT / "plugins" / "module_utils" / f"{name}.py"):
        if full.startswith(PACKAGE + "."):
            found.add(full[len(PACKAGE) + 1 :].split(".")[0])
    return found


def closure(names: Iterable[str]) -> set[str]:
    """These files and all that they import, and so on."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += siblings(name)
    return found
