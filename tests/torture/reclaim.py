# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes the kernel take memory back, and give inodes up.

reclaim.py hold FOLDER       keep unlinked files open; SIGTERM closes them
reclaim.py drop COUNT        have the kernel drop inodes and names, again and again
reclaim.py within MIB COMMAND…   run a command in a memory cgroup of that size; fails if it fits
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HELD = 100
_CGROUP = Path("/sys/fs/cgroup")
_PAUSE = 0.2


def hold(folder: Path) -> None:
    """Files with data and no name; the last close is where their room is given back."""
    held = []
    for number in range(HELD):
        path = folder / f"held-{number}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.write(fd, bytes([number]) * 5000)
        path.unlink()
        held.append(fd)
    (folder / "holding").touch()
    signal.sigwait([signal.SIGTERM])
    for fd in held:
        os.close(fd)


def drop(count: Path) -> None:
    """``drop_caches``: inodes and names, of all filesystems; COUNT grows by a byte each time."""
    ended: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_ignored: ended.append(True))
    while not ended:
        Path("/proc/sys/vm/drop_caches").write_text("2")
        with count.open("ab") as file:
            file.write(b".")
        time.sleep(_PAUSE)


@contextlib.contextmanager
def _group(size: int) -> Iterator[Path]:
    """A memory cgroup with this limit in bytes, of version 1 or 2."""
    if (_CGROUP / "memory" / "tasks").exists():
        parent, limit = _CGROUP / "memory", "memory.limit_in_bytes"
    else:
        parent, limit = _CGROUP, "memory.max"
        (parent / "cgroup.subtree_control").write_text("+memory")
    group = parent / f"quiesce-torture-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(size))
        yield group
    finally:
        group.rmdir()


def _refusals(group: Path) -> int:
    """How often there was no room in it, and something had to be taken back."""
    if (group / "memory.failcnt").exists():
        return int((group / "memory.failcnt").read_text())
    events = dict(line.split() for line in (group / "memory.events").read_text().splitlines())
    return int(events["max"])


def within(mib: int, argv: list[str]) -> int:
    """Run a command in such a group; its return code, or 1 where all of it had room."""
    with _group(mib << 20) as group:
        join = (
            "import os, sys; open(sys.argv[1], 'w').write('0'); os.execv(sys.argv[2], sys.argv[2:])"
        )
        words = [sys.executable, "-c", join, str(group / "cgroup.procs"), *argv]
        done = subprocess.run(words, check=False).returncode
        return done or int(_refusals(group) == 0)


def main() -> int:
    """Do what the first argument says."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM] if sys.argv[1] == "hold" else [])
    if sys.argv[1] == "hold":
        hold(Path(sys.argv[2]))
    elif sys.argv[1] == "drop":
        drop(Path(sys.argv[2]))
    else:
        return within(int(sys.argv[2]), sys.argv[3:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
