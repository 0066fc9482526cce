# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: real filesystems on loop devices for tests that freeze them.

with open_lab() as lab, lab.filesystem("ext4") as fs:
    with fs.frozen():
        image = fs.snapshot()
    with lab.mounted(image, fs.fstype) as folder:
        ...
"""

from __future__ import annotations

from .commands import LabError, run
from .lab import FSTYPES, GIB, MIB, TOOLS, Filesystem, Lab, open_lab
from .load import Load, load
from .teardown import leftovers, remove_crashed_labs
from .throttle import throttled

__all__ = [
    "FSTYPES",
    "GIB",
    "MIB",
    "TOOLS",
    "Filesystem",
    "Lab",
    "LabError",
    "Load",
    "leftovers",
    "load",
    "open_lab",
    "remove_crashed_labs",
    "run",
    "throttled",
]
