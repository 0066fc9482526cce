# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process asks of the kernel for itself: to stay alive and quick, or to end in time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError

_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8
_MCL_CURRENT, _MCL_FUTURE = 1, 2


def harden() -> None:
    """Lock memory, be the last that the OOM killer takes, and be scheduled before others.

    Each of these is refused in some containers; the guard works without.
    """
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):
        # Else each thread gets memory of its own to allocate from, and all of it is locked.
        libc.mallopt(_M_ARENA_MAX, 1)
    libc.mlockall(_MCL_CURRENT | _MCL_FUTURE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("-1000")
    _come_first()


def hurry() -> None:
    """Be scheduled before others, but not what this process starts; refused in some containers."""
    with contextlib.suppress(OSError):
        # First the flag: without it all that is started from here on would come first as well.
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        _come_first()


def _come_first() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def allow_many_descriptors() -> None:
    """Raise the soft limit of open files to the hard one."""
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def watch_signals(*numbers: int) -> int:
    """Have these signals do nothing; the descriptor from which their numbers can be read."""
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(write)
    for number in numbers:
        signal.signal(number, lambda *_ignored: None)
    return read


def require_privilege() -> None:
    """``QuiesceError`` without CAP_SYS_ADMIN, which FIFREEZE and FITHAW ask for."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        effective = next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff:"))
    if not effective >> 21 & 1 or os.geteuid() != 0:
        raise QuiesceError(
            "freezing and thawing need root with CAP_SYS_ADMIN; set become: true for this task"
        )
