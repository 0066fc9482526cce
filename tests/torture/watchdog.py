# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thaw devices when their time is over, or when whoever started this is gone: a safety net.

    watchdog.py SECONDS /dev/loop3 [/dev/loop4 …]

A loop device that has another file behind it than at the start is somebody else's, and left alone.

Runs as a session of its own and opens nothing on the filesystems until it has to thaw them, so that
it is in the way of no unmount. Ends by SIGTERM, before its time; its return code is 3 if it thawed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

_LOOK_SECONDS = 0.5
_GO_ON_SECONDS = 60.0


def main() -> int:
    """Wait, then thaw whatever of the devices is mounted somewhere, again and again."""
    end = time.monotonic() + float(sys.argv[1])
    starter = os.getppid()
    files = {device: _behind(device) for device in sys.argv[2:]}
    while time.monotonic() < end and os.getppid() == starter:
        time.sleep(_LOOK_SECONDS)
    thawed = False
    end = time.monotonic() + _GO_ON_SECONDS
    while time.monotonic() < end:
        mine = {device for device, file in files.items() if file and _behind(device) == file}
        for mountpoint in _mountpoints(mine):
            argv = ["fsfreeze", "--unfreeze", mountpoint]
            done = subprocess.run(argv, check=False, capture_output=True)
            thawed = thawed or done.returncode == 0
        time.sleep(_LOOK_SECONDS)
    return 3 if thawed else 0


def _behind(device: str) -> str:
    """The file behind a loop device, by its inode: its name can change with the mounts."""
    done = subprocess.run(
        ["losetup", "--noheadings", "--output", "BACK-INO,BACK-MAJ:MIN", device],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def _mountpoints(devices: set[str]) -> list[str]:
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
        fields = [line.split(" ") for line in stream]
    return [each[1] for each in fields if each[0] in devices]


if __name__ == "__main__":
    sys.exit(main())
