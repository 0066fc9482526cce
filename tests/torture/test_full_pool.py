# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thin pool that runs full: the storage below refuses writes while it freezes, or is frozen.

The idea of xfstests' generic/459, with a sparse image on a small filesystem for a pool. Whatever
the filesystem makes of it (an error, a shutdown, trying again for ever), the freeze comes to an end
and says which; as soon as there is room again nothing is frozen; and what fsync called safe is.

That holds for a pool that says what it could not write. The loop device in between does so where it
bypasses the page cache: else the driver of Linux 6.18 takes a write of which only the beginning
found room on an ext4 or XFS for a success, and the rest is lost without a word.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.kernel.lab import FSTYPES, GIB, MIB, Filesystem, Lab, run
from tests.kernel.processes import of_lease, wait_for
from tests.torture.evidence import broken_pledges
from tests.torture.scene import PATIENCE, Scene, outcome, scene

LEFT = 3 * MIB
# A file of its own, written and synced: works, fails or hangs.
TRIAL = (
    "import os, sys; fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600); "
    "os.write(fd, os.urandom(65536)); os.fsync(fd)"
)


class Pool:
    """The small filesystem below, whose room a ballast takes and gives back."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.folder = filesystem.mountpoint
        self.ballast = self.folder / "ballast"

    def free(self) -> int:
        """Bytes of room."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self) -> None:
        """Leave next to no room."""
        fd = os.open(self.ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            size = os.fstat(fd).st_size
            os.posix_fallocate(fd, size, max(1, self.free() - LEFT))
        finally:
            os.close(fd)

    def empty(self) -> None:
        """Give all of it back."""
        self.ballast.unlink(missing_ok=True)


@pytest.mark.parametrize("fstype", FSTYPES)
def test_the_storage_below_is_full(lab: Lab, fstype: str) -> None:
    with (
        lab.filesystem("ext4", size=900 * MIB, mkfs=("-m", "0")) as below,
        scene(lab, "full pool", fstype, size=2 * GIB, on=below, direct_io=True) as play,
    ):
        pool, kept = Pool(below), play.log("pledges")
        folder = play.filesystem.mountpoint / "safe"
        folder.mkdir()
        os.sync()
        try:
            for number in play.rounds(at_least=6):
                play.start("evidence.py", "pledge", folder, kept)
                play.start("evidence.py", "bulk", play.filesystem.mountpoint, play.log("refusals"))
                squeeze(play, pool, before=number % 2 == 0)
                pool.empty()
                wait_for(lambda: not of_lease(play.lease("torture")), PATIENCE)
                assert play.state() == "thawed"
                play.end_children()
                recover(play)
        finally:
            pool.empty()
        play.assert_quiet()
        play.check(log_replay=True)
        given, broken = broken_pledges(folder, kept)
        assert not broken, broken
        log = play.log("refusals")
        play.counts["writes refused"] = len(log.read_text().splitlines()) if log.exists() else 0
        play.counts["pledges"] = given
        assert play.counts["writes refused"] + play.counts["freezes refused"] > 0
        play.report(full=1, pledges=10, rounds=6, checks=1)


def squeeze(play: Scene, pool: Pool, before: bool) -> None:
    """Run the pool full before the freeze, or while it is frozen."""
    time.sleep(play.random.uniform(0.2, 0.5))
    if before:
        pool.fill()
        time.sleep(play.random.uniform(0, 1.5))
    answer = outcome(play.freeze, timeout=8, freeze_timeout=4, flush_timeout=4)
    play.counts["rounds"] += 1
    if answer.get("failed"):
        # A btrfs that could not write becomes read-only by itself, perhaps just then: a writer
        # fails where a freeze has to block it, and nothing can be proven.
        reasons = (
            "could not be frozen",
            "was not frozen",
            "flush",
            "is read-only",
            "to watch over",
        )
        assert any(words in answer["msg"] for words in reasons), answer["msg"]
        play.counts["freezes refused"] += 1
    else:
        assert answer["changed"] is True
        assert play.state() == "frozen"
        if not before:
            pool.fill()
        thawed = play.thaw()
        play.counts["held" if thawed["held"] else "not held"] += 1
    # Writers get on now, and what is left of the room with them.
    time.sleep(0.5)
    play.counts["full"] += pool.free() < MIB


def recover(play: Scene) -> None:
    """Unmount, repair and mount it where it does not take writes any more, as an operator would."""
    trial = [sys.executable, "-c", TRIAL, str(play.filesystem.mountpoint / "trial")]
    done = subprocess.run(trial, check=False, capture_output=True, timeout=PATIENCE)
    if done.returncode == 0:
        return
    play.counts["shutdowns"] += 1
    play.unmount()
    if play.filesystem.fstype == "ext4":
        repaired = run("e2fsck", "-fy", play.filesystem.device, check=False, timeout=PATIENCE)
        assert repaired.returncode in (0, 1), repaired.stdout
    play.filesystem.mount()
