# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A freeze that a guard gives up before all is frozen: the rest thaws, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel.guarded import LEASE, begun
from tests.kernel.lab import MIB, Filesystem, Lab, throttled
from tests.kernel.modules import Failed, arguments_of, environment, freeze, info, parse, thaw
from tests.kernel.processes import children, of_lease, wait_for

# What is written at a rate of a sixth of it keeps a flush, or a freeze, busy for six seconds.
DIRTY = 24 * MIB
RATE = 4 * MIB
READER = Reader()


@dataclass
class Attempt:
    """A freeze of ``quick`` and ``slow`` that is under way."""

    quick: Filesystem
    slow: Filesystem
    guard: int
    call: subprocess.Popen[str]
    fds: Sequence[int]

    def states(self) -> list[str]:
        """Of quick and slow, as the kernel has them."""
        return [READER.state(fd) for fd in self.fds]

    def failure(self) -> Failed:
        """What the module says."""
        with pytest.raises(Failed) as failed:
            parse(self.call.communicate(timeout=60)[0])
        return failed.value

    def leaves_nothing(self) -> None:
        """No process, no frozen filesystem and no trace of the lease."""
        wait_for(lambda: not of_lease(LEASE), 60)
        assert self.states() == ["thawed", "thawed"]
        assert not Path(_lease.folder(LEASE)).exists()
        assert [each["lease"] for each in info(self.quick, self.slow)] == [None, None]
        assert freeze(self.quick, self.slow, lease=LEASE)["changed"]
        assert thaw(self.quick, self.slow, lease=LEASE)["held"] is True


@contextmanager
def attempt(lab: Lab, phase: str, **options: Any) -> Iterator[Attempt]:
    """Give a freeze whose storage is too slow in that phase for the length of the block."""
    with lab.filesystem("ext4") as quick, lab.filesystem("xfs", size=512 * MIB) as slow:
        fds = [os.open(each.mountpoint, os.O_RDONLY) for each in (quick, slow)]
        asked = {"path": [quick, slow], "state": "frozen", "lease": LEASE}
        try:
            with throttled(slow.device, RATE):
                (slow.mountpoint / "dirty").write_bytes(os.urandom(DIRTY))
                call = subprocess.Popen(
                    arguments_of(
                        "fsfreeze", False, {**asked, "flush": phase == "flushing", **options}
                    ),
                    env=environment(),
                    stdout=subprocess.PIPE,
                    text=True,
                )
                made = Attempt(quick, slow, begun(phase), call, fds)
                if phase == "freezing":
                    wait_for(lambda: made.states() == ["frozen", "freezing"], 20)
                yield made
            made.leaves_nothing()
        finally:
            for fd in fds:
                os.close(fd)
            call.kill()
            call.wait()
            wait_for(lambda: not of_lease(LEASE), 60)


@pytest.mark.parametrize("phase", ["flushing", "freezing"])
def test_only_the_freezer_is_killed(lab: Lab, phase: str) -> None:
    """It ends when the kernel lets go of it, and what it has frozen then nobody has told."""
    with attempt(lab, phase) as made:
        # It was started last.
        os.kill(children(made.guard)[-1], signal.SIGKILL)
        failed = made.failure()
        which = "the set" if phase == "flushing" else f"{made.slow} (xfs on {made.slow.device})"
        assert f"the process that froze {which} was killed" in failed.msg
        assert made.states() == ["thawed", "thawed"]
        assert [each["state"] for each in failed.result["filesystems"]] == ["thawed", "thawed"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["flushing", "freezing"])
def test_the_guard_is_told_to_end(lab: Lab, phase: str, number: signal.Signals) -> None:
    """It does not wait for the storage with what it has frozen already."""
    with attempt(lab, phase) as made:
        os.kill(made.guard, number)
        assert "told to end (SIGTERM) while it froze the set" in made.failure().msg
        assert made.states() == ["thawed", "thawed" if phase == "flushing" else "freezing"]


def test_a_flush_that_does_not_end(lab: Lab) -> None:
    """It is given up in time, and when it is over nothing is frozen any more."""
    with attempt(lab, "flushing", flush_timeout=1, freeze_timeout=1) as made:
        failed = made.failure()
        assert "did not end within 1 s (flush_timeout) and 1 s more" in failed.msg
        # What would freeze next is busy with the flush still.
        assert of_lease(LEASE)
        assert made.states() == ["thawed", "thawed"]


def test_its_name_is_not_free_before_the_kernel_has_let_go(lab: Lab) -> None:
    with attempt(lab, "freezing", freeze_timeout=1) as made:
        assert "(freeze_timeout): its storage is too slow" in made.failure().msg
        waits = rf"lease '{LEASE}' has ended, and its guard \(pid {made.guard}\) still waits"
        with pytest.raises(Failed, match=waits) as failed:
            freeze(made.quick, lease=LEASE)
        assert failed.value.result["changed"] is False
        assert made.states()[0] == "thawed"
