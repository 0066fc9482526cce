# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls the modules as a managed host runs them: each call is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import ansible

# What ansible-core offers for running a module without its wrapper.
_PROGRAM = """
import importlib, json, sys
from ansible.module_utils.testing import patch_module_args
name, arguments = sys.argv[1], json.loads(sys.argv[2])
module = importlib.import_module("ansible_collections.quiesce.storage.plugins.modules." + name)
with patch_module_args(arguments):
    module.main()
"""


def seconds(iso: str) -> float:
    """Seconds since 1970 of a time that a module returned."""
    return datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp()


class Failed(Exception):
    """A module that answered ``failed``; ``result`` is its whole answer."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result
        self.msg: str = result["msg"]


def arguments_of(name: str, check: bool, options: dict[str, Any]) -> list[str]:
    """The command that runs a module, for a ``Popen`` of one's own."""
    extra = {"_ansible_check_mode": check, "_ansible_diff": True}
    return [sys.executable, "-c", _PROGRAM, name, json.dumps({**options, **extra}, default=str)]


def environment() -> dict[str, str]:
    """The environment for that command: where the collection and ansible-core are."""
    folders = [p for p in sys.path if Path(p, "ansible_collections", "quiesce").is_dir()]
    folders.append(str(Path(ansible.__file__).parents[1]))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONDONTWRITEBYTECODE": "1"}


def parse(stdout: str, stderr: str = "") -> dict[str, Any]:
    """The answer of a module; ``Failed`` when it says that it failed."""
    lines = [line for line in stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 1, f"not one answer, but: {stdout!r} {stderr!r}"
    assert "Traceback" not in stdout + stderr, stdout + stderr
    result: dict[str, Any] = json.loads(lines[0])
    if result.get("failed"):
        raise Failed(result)
    return result


def call(
    name: str,
    *,
    check: bool = False,
    prefix: Sequence[str] = (),
    patience: float = 60,
    python: str = sys.executable,
    **options: Any,
) -> dict[str, Any]:
    """Run a module with these options; ``prefix`` is a command that runs it (``setpriv``, ...).

    Everything else is an option of the module.
    """
    done = subprocess.run(
        [*prefix, python, *arguments_of(name, check, options)[1:]],
        env=environment(),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=patience,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return parse(done.stdout, done.stderr)


def freeze(*paths: Any, **options: Any) -> dict[str, Any]:
    """``fsfreeze state=frozen``."""
    return call("fsfreeze", path=list(paths), state="frozen", **options)


def thaw(*paths: Any, **options: Any) -> dict[str, Any]:
    """``fsfreeze state=thawed``."""
    return call("fsfreeze", path=list(paths), state="thawed", **options)


def info(*paths: Any, **options: Any) -> list[dict[str, Any]]:
    """``fsfreeze_info``: its filesystems."""
    if paths:
        options["path"] = list(paths)
    filesystems: list[dict[str, Any]] = call("fsfreeze_info", **options)["filesystems"]
    return filesystems


def state(path: Any) -> str:
    """The kernel's state of the filesystem at ``path``."""
    (found,) = info(path)
    assert found["evidence"] == "kernel"
    return str(found["state"])
