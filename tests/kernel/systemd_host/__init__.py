# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A test host on which systemd is PID 1 and whose ``/`` can be frozen for real.

It is a podman container whose root is a loop-mounted ext4 image of its own, so that nothing
which is frozen inside is a filesystem of the machine. The image is built once by debootstrap,
from the mirror that the machine's own apt uses, and copied for each host::

    with SystemdHost() as host:
        host.run(["systemctl", "is-system-running"])
        host.freeze("/data", seconds=10)      # thawed after 10 s whatever happens
        host.thaw("/data")
"""

from __future__ import annotations

from .clearing import FIFREEZE, clear_left_overs, thaw_fd
from .clock import ThawClock
from .commands import HostError, cache_folder
from .host import SystemdHost
from .image import base_image, cached_image, debootstrap, machine_suite

__all__ = [
    "FIFREEZE",
    "HostError",
    "SystemdHost",
    "ThawClock",
    "base_image",
    "cache_folder",
    "cached_image",
    "clear_left_overs",
    "debootstrap",
    "machine_suite",
    "thaw_fd",
]
