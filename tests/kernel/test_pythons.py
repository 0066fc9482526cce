# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard under every Python of this machine that a managed host may have."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import Lab
from tests.kernel.modules import call

# From the oldest that a managed host may have; ansible-core 2.19 runs modules on these.
_MINORS = range(8, 14)


def interpreters() -> list[str]:
    """The distribution's Pythons, and those under pyenv, one of each version."""
    found: dict[int, str] = {}
    for minor in _MINORS:
        name = f"python3.{minor}"
        places = [
            Path("/usr/bin", name),
            *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}"),
        ]
        for place in places:
            if place.exists():
                found.setdefault(minor, str(place))
    return list(found.values())


@pytest.mark.parametrize("python", interpreters())
def test_freeze_run_and_thaw(lab: Lab, python: str) -> None:
    subprocess.run([python, "--version"], check=True)
    with lab.filesystem("ext4") as one, lab.filesystem("xfs") as two:
        options: dict[str, Any] = {"path": [one, two], "lease": "py", "python": python}
        assert call("fsfreeze", state="frozen", **options)["changed"]
        info: dict[str, Any] = {"path": [one], "python": python}
        assert call("fsfreeze_info", **info)["filesystems"][0]["state"] == "frozen"
        assert call("fsfreeze", state="thawed", **options)["held"] is True
        run: dict[str, Any] = {"path": [one], "commands": [["true"]], "python": python}
        assert call("fsfreeze_run", **run)["held"] is True


def test_there_is_one() -> None:
    assert interpreters()
