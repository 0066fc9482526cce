# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on managed hosts needs nothing but Python, and flows one way."""

from __future__ import annotations

import graphlib
import sys
from pathlib import Path

import pytest

from tests.unit.sources import MODULE_UTILS, MODULES, PACKAGE, ROOT, closure, imported, siblings


def strangers(path: Path) -> set[str]:
    """What a file imports that is neither of Python's own nor of module_utils."""
    return {
        name
        for name in imported(path)
        if name.split(".")[0] not in {*sys.stdlib_module_names, "__future__"}
        and not name.startswith(PACKAGE + ".")
    }


def test_there_is_something_to_look_at() -> None:
    assert {"_guard", "_lease", "_mounts"} <= set(MODULE_UTILS)
    assert {"fsfreeze", "fsfreeze_info", "fsfreeze_run"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULE_UTILS)
def test_module_utils_need_nothing_but_python(name: str) -> None:
    assert strangers(ROOT / "plugins" / "module_utils" / f"{name}.py") == set()


@pytest.mark.parametrize("name", MODULE_UTILS)
def test_module_utils_are_private(name: str) -> None:
    assert name.startswith("_")


# What these describe is done by an action plugin, all of it.
CONTROLLER_ONLY = {"clock_info"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - CONTROLLER_ONLY))
def test_modules_need_ansible_for_their_arguments_only(name: str) -> None:
    path = ROOT / "plugins" / "modules" / f"{name}.py"
    assert strangers(path) == {"ansible.module_utils.basic.AnsibleModule"}


def test_what_is_imported_is_there() -> None:
    for name in MODULE_UTILS:
        assert siblings(name) <= set(MODULE_UTILS), name


def test_no_circles() -> None:
    graphlib.TopologicalSorter({name: siblings(name) for name in MODULE_UTILS}).prepare()


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("_mounts", {"_guard", "_lease", "_freeze", "_order", "_guard_client"}),
        ("_order", {"_guard", "_freeze", "_ioctl"}),
        ("_guard", {"_freeze", "_unfreeze", "_guard_client", "_launch", "_run", "_info"}),
        ("_second", {"_guard", "_guard_client", "_launch"}),
        ("_after", {"_guard", "_guard_client", "_launch", "_freeze", "_unfreeze"}),
        ("_ioctl", set(MODULE_UTILS) - {"_ioctl"}),
        ("_superblock", {"_mounts", "_guard", "_lease", "_ioctl"}),
    ],
)
def test_a_lower_file_never_imports_a_higher_one(lower: str, higher: set[str]) -> None:
    assert closure({lower}) & higher == set()
