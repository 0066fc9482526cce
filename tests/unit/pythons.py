# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pythons of this machine that a managed host may have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MINORS = range(8, 14)


def find(minor: int) -> str | None:
    """A Python 3 of this minor version that starts, or None."""
    name = f"python3.{minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [Path(folder, name) for folder in os.environ.get("PATH", "").split(":") if folder]
    places += sorted(pyenv.glob(f"versions/3.{minor}.*/bin/{name}"))
    if sys.version_info.minor == minor:
        places.insert(0, Path(sys.executable))
    for place in places:
        # A shim of pyenv answers to every name, and knows only some.
        if os.access(place, os.X_OK) and "shims" not in place.parts and _is(place, minor):
            return str(place)
    return None


def _is(python: Path, minor: int) -> bool:
    program = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.split() == ["3", str(minor)]


def parameters() -> list[object]:
    """One for each version; the test's name and pytest's summary say which are not here."""
    found = {minor: find(minor) for minor in MINORS}
    return [
        pytest.param(
            python,
            id=f"3.{minor}" if python else f"3.{minor}-absent",
            marks=[] if python else pytest.mark.skip(reason=f"no Python 3.{minor} on this machine"),
        )
        for minor, python in found.items()
    ]
