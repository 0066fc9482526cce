# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks ``thaw`` and ``status`` have to say when it matters."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest

from tests.kernel.lab import Filesystem

FOLDER = Path(__file__).parents[2] / "playbooks" / "templates"
LEASE = {
    "name": "nightly",
    "frozen_at": "2026-11-21T01:05:55Z",
    "deadline": "2026-11-21T01:06:55Z",
    "guard_pid": 4711,
}


def filled(template: str, **variables: Any) -> str:
    """The template as Ansible fills it in."""
    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, autoescape=False)
    environment.filters |= {"quote": lambda path: f"'{path}'", "flatten": lambda paths: paths[0]}
    return environment.get_template(template).render(**variables)


@pytest.mark.parametrize(
    ("lease", "said"),
    [
        (None, "frozen by something that is no lease of this host"),
        ("alive", "until 2026-11-21T01:06:55Z (guard 4711)"),
        ("silent", "until 2026-11-21T01:06:55Z (guard 4711, which does not answer)"),
        ("dead", "and its guard is dead: nobody thaws it by itself"),
    ],
)
def test_who_holds_it_and_whether_it_ends(lease: str | None, said: str):
    found: dict[str, Any] = {"path": "/srv", "fstype": "xfs", "source": "/dev/vdb1"}
    found |= {"state": "frozen", "lease": {**LEASE, "guard": lease} if lease else None}
    (line,) = filled("status.j2", quiesce_status=[found]).splitlines()
    assert line.startswith("/srv (xfs on /dev/vdb1) is frozen by ")
    assert line.endswith(said)
    assert ("lease nightly since 2026-11-21T01:05:55Z, " in line) == bool(lease)


def thaw(filesystem: Filesystem, user: int = 0) -> subprocess.CompletedProcess[str]:
    """Run what the playbook runs where no module gets through."""
    script = filled("thaw.sh.j2", thaw_paths=[str(filesystem)])
    argv = ["sh", "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20, user=user)


def test_only_root_can_say_that_nothing_was_frozen(filesystem: Filesystem):
    with filesystem.frozen():
        refused = thaw(filesystem, user=65534)
        assert refused.returncode == 1
        assert "thawing needs root" in refused.stderr
        done = thaw(filesystem)
        assert (done.returncode, done.stdout) == (0, f"thawed {filesystem}\n")
    again = thaw(filesystem)
    assert (again.returncode, again.stdout) == (0, "")
