# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a filesystem is frozen, and how that is known."""

from __future__ import annotations

import os
import select
from typing import Sequence

from ansible_collections.quiesce.storage.plugins.module_utils._children import (
    asleep,
    change_nothing,
    fork,
)
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import Held
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    FROZEN,
    THAWED,
    UNKNOWN,
    Reader,
    SuperblockError,
)

# An unlink of a name that does not exist takes below a millisecond (measured) where
# nothing is frozen.
_PROBE_SECONDS = 0.5


class States:
    """Asks the kernel; where it cannot, a lease; where that is not enough, a probe."""

    def __init__(self, leases: Sequence[Held], probe: bool = False) -> None:
        self.leases = leases
        self._probe = probe and not sleeping_may_panic()
        self.reader: Reader | None = None
        self.reason = ""
        try:
            self.reader = Reader()
        except SuperblockError as error:
            self.reason = str(error)

    def of(self, fd: int, directory: bool, device: str) -> tuple[str, str]:
        """State and evidence of a filesystem, by a descriptor of it."""
        if self.held_read_only(device):
            return FROZEN, "lease"
        if self.reader is not None:
            try:
                return self.reader.state(fd), "kernel"
            except SuperblockError as error:
                self.reason = str(error)
        if any(lease.status is not None and lease.holds(device) for lease in self.leases):
            return FROZEN, "lease"
        if self._probe:
            state = _probe(fd, directory)
            return state, "none" if state == UNKNOWN else "probe"
        return UNKNOWN, "none"

    def held_read_only(self, device: str) -> bool:
        """Whether a lease holds it read-only in place of frozen."""
        for lease in self.leases:
            for each in lease.record["filesystems"]:
                if each["device"] == device and each.get("method") == "remount_ro":
                    return lease.holds(device)
        return False


def sleeping_may_panic() -> bool:
    """Whether a process in state D for long makes this kernel panic."""
    try:
        with open("/proc/sys/kernel/hung_task_panic", "rb") as stream:
            return int(stream.read()) != 0
    except (OSError, ValueError):
        return False


def _probe(fd: int, directory: bool) -> str:
    """Try a change that changes nothing, in a child: it sleeps if the filesystem is frozen."""
    done, write = os.pipe()
    try:
        pid = fork(lambda: change_nothing(fd, directory), [fd, write])
        os.close(write)
        if select.select([done], [], [], _PROBE_SECONDS)[0]:
            os.waitpid(pid, 0)
            return THAWED
        return FROZEN if asleep(pid) and _waits_for_thaw(pid) else UNKNOWN
    finally:
        os.close(done)


def _waits_for_thaw(pid: int) -> bool:
    """A process that waits for slow storage sleeps elsewhere than one that waits for a thaw."""
    try:
        with open("/proc/%d/wchan" % pid, "rb") as stream:
            return b"percpu" in stream.read()
    except OSError:
        return False
