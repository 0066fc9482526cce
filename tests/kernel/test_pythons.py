# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard under every Python that a managed host may have."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.kernel.lab import Lab
from tests.kernel.modules import call
from tests.unit.pythons import VERSIONS, find


@pytest.mark.parametrize("version", VERSIONS)
def test_freeze_run_and_thaw(lab: Lab, version: str) -> None:
    python = find(version)
    said = subprocess.run([python, "--version"], check=True, capture_output=True, text=True)
    assert said.stdout.startswith(f"Python {version}.")
    with lab.filesystem("ext4") as one, lab.filesystem("xfs") as two:
        options: dict[str, Any] = {"path": [one, two], "lease": "py", "python": python}
        assert call("fsfreeze", state="frozen", **options)["changed"]
        info: dict[str, Any] = {"path": [one], "python": python}
        assert call("fsfreeze_info", **info)["filesystems"][0]["state"] == "frozen"
        assert call("fsfreeze", state="thawed", **options)["held"] is True
        run: dict[str, Any] = {"path": [one], "commands": [["true"]], "python": python}
        assert call("fsfreeze_run", **run)["held"] is True
