# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that write to a filesystem of a host while faults happen to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.quiesce.storage.plugins.module_utils._children import asleep

from playbooks.files.load import WRITERS, sample, verify
from tests.hosts import Host
from tests.kernel.lab.load import PROGRAM
from tests.kernel.processes import children, command, wait_for

LIGHT = 20
"""How much each of them does in a second where there are many, and few processors."""

# On a machine that is busy with other tests.
_SECONDS = 60
_LOAD = "/dev/shm/load.py"
# What load.py does by itself is a hundred things in a second, and more.
_PACED = """\
import sys
sys.path.insert(0, "/dev/shm")
import load
if sys.argv[1] != "0":
    load.PER_SECOND = dict.fromkeys(load.WRITERS, int(sys.argv[1]))
del sys.argv[1]
sys.exit(load.main())
"""


class Writers:
    """The writers of the demo, at work on one filesystem of a host until they are stopped."""

    def __init__(self, host: Host, path: str, per_second: int = 0) -> None:
        """Start them, and wait until each has written something.

        :param path: the filesystem, by its mount point.
        :param per_second: how much each does in a second; as the demo has it when not given.
        """
        self._host = host
        self._path = path
        self._progress = f"/dev/shm/progress{path.replace('/', '-')}"
        shutil.copy(PROGRAM, host.outside(_LOAD))
        argv = ["python3", "-c", _PACED, str(per_second), "run", "--directory", path]
        argv += ["--progress", self._progress, "--seconds", "1200", "--fio-rate", "0"]
        self._entered = subprocess.Popen(host.inside(*argv), stdin=subprocess.DEVNULL)
        self.written()
        # nsenter only waits for it, and hands on no signal.
        (self._load,) = children(self._entered.pid)
        self._each = dict(zip(WRITERS, children(self._load), strict=True))

    def written(self) -> dict[str, int]:
        """Return how much each has finished by now."""
        return sample(self._host.outside(self._progress), _SECONDS)

    def held_up(self) -> dict[str, int]:
        """Wait until all are blocked, as the filesystem is frozen; return what is written."""
        wait_for(lambda: all(map(asleep, self._each.values())), _SECONDS)
        return self.written()

    def nothing_lost(self) -> None:
        """All of them, held up or not, go on now; and all that they wrote is there."""
        since = self.written()
        wait_for(lambda: all(self.written()[each] > since[each] for each in since), _SECONDS)
        assert self.stop() == 0
        self.kept(self.written())

    def ended_and_kept(self, held_up: Mapping[str, int]) -> None:
        """They have ended since ``held_up``, as their names led nowhere, and nothing is lost.

        Nothing can end one that is blocked: that it is gone says that its call went on. What it
        was about to write need not be there, as it may have been told to end by then.
        """
        self.stop()
        self.kept(held_up)

    def kept(self, sample: Mapping[str, int], mountpoint: Path | None = None) -> None:
        """All that had been written at ``sample`` is there.

        :param mountpoint: of a clone of the filesystem; that itself when not given.
        """
        verdict = verify(mountpoint or self._host.outside(self._path), dict(sample))
        assert verdict["lost"] == 0, verdict

    def stop(self) -> int:
        """End them, and wait until they are gone; the status is 0 unless one had ended before."""
        if self._entered.poll() is None:
            os.kill(self._load, signal.SIGTERM)
        status = self._entered.wait(_SECONDS)
        # One that is blocked outlives it until the thaw.
        pids = self._each.values()
        wait_for(lambda: not any(self._progress in command(pid) for pid in pids), _SECONDS)
        return status
