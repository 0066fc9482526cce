# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines: stock Debian releases with their own kernels, systemd as PID 1, and LVM.

with open_machine(release=12) as vm:
    vm.variables()     # for an inventory
    vm.freeze("/")
    vm.frozen()
"""

from __future__ import annotations

from tests.hosts import USER

from .control import MachineError
from .image import SUITES
from .machine import Machine, open_machine

__all__ = ["SUITES", "USER", "Machine", "MachineError", "open_machine"]
