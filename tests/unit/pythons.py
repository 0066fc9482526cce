# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pythons that a managed host may have, all of which have to be on this machine."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from tests.unit.sources import ROOT

_WANTED = ROOT / "tests" / "requirements" / "pythons.txt"
_LINES = [line.strip() for line in _WANTED.read_text().splitlines()]
VERSIONS = [line for line in _LINES if line and not line.startswith("#")]


@functools.cache
def find(version: str) -> str:
    """A Python of this version (such as ``3.8``) that starts; AssertionError without one."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = ["/usr/bin", *filter(None, os.environ.get("PATH", "").split(":"))]
    places = [Path(folder, name) for folder in folders]
    places += sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"))
    for place in places:
        # A shim of pyenv answers to every name, and knows only some.
        if os.access(place, os.X_OK) and "shims" not in place.parts and _is(place, version):
            return str(place)
    raise AssertionError(f"no Python {version} on this machine; see {_WANTED}")


def _is(python: Path, version: str) -> bool:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version
