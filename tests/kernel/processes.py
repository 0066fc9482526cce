# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's processes, as tests see them: who is whose child, and what they cost."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def command(pid: int) -> str:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def of_lease(name: str) -> list[int]:
    """All processes of the guard of a lease: guard, second, witnesses, freezer."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [
        pid
        for pid in pids
        if ".pyz guard " in command(pid) + " " and command(pid).endswith(" " + name)
    ]


def children(pid: int) -> list[int]:
    """The children of a process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def second_of(name: str, guard: int) -> int:
    """The second process: of the lease, and no child of its guard."""
    (second,) = [pid for pid in of_lease(name) if pid != guard and parent(pid) != guard]
    return second


def pss_kib(pid: int) -> int:
    """Proportional set size of a process, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError(f"no Pss of {pid}")


def kill_together(pids: Iterable[int]) -> None:
    """SIGKILL to all, stopped first, so that none acts on the death of another."""
    chosen = list(pids)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def wait_for(condition: Callable[[], object], seconds: float) -> float:
    """Seconds until the condition was true; AssertionError when it was not in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.005)
    return time.monotonic() - began
