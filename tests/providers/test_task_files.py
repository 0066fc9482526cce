# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ready task files for storage that we do not have: they ask modules for what these offer."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

TASKS = Path(__file__).parents[2] / "docs" / "providers" / "tasks"


@functools.cache
def options(module: str) -> dict[str, Any]:
    """The options of a module, as its documentation has them."""
    argv = [sys.executable, "-m", "ansible", "doc", "--type", "module", "--json", module]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(told)[module]["doc"]["options"]
    return found


def modules() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each file with a module of others that it uses, and the arguments."""
    for file in sorted(TASKS.glob("*.yml")):
        for task in yaml.safe_load(file.read_text()):
            for key, value in task.items():
                if key.count(".") == 2 and not key.startswith("ansible.builtin."):
                    yield file.name, key, value


FOUND = list(modules())


def test_modules_are_used():
    assert {file for file, _module, _arguments in FOUND} == {
        "cinder.yml",
        "ontap.yml",
        "vmware.yml",
    }


@pytest.mark.parametrize(("file", "module", "arguments"), FOUND)
def test_arguments_are_options(file: str, module: str, arguments: dict[str, Any]):
    known = options(module)
    names = {*known, *(alias for each in known.values() for alias in each.get("aliases", []))}
    assert set(arguments) <= names
    required = {name for name, each in known.items() if each.get("required")}
    assert required <= set(arguments)


def test_both_modules_for_vmware_take_the_same():
    """As the page about VMware says."""
    ((arguments),) = (given for file, _module, given in FOUND if file == "vmware.yml")
    assert set(arguments) <= set(options("community.vmware.vmware_guest_snapshot"))
