# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault happens to: a host whose filesystems are written to, and plays that freeze them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.hosts import Host, open_host
from tests.kernel.lab import Lab, run, throttled
from tests.kernel.lab.load import PROGRAM
from tests.kernel.processes import children, command, wait_for

from .plays import Play, playing

DATA = "/srv"
PATHS = (DATA, "/")
"""What the plays freeze: a filesystem of its own, and the root of the host."""

TIMEOUT = 4
"""Seconds until the host thaws by itself, where a test says nothing else."""

LATE = 0.5
"""Seconds by which a thaw may be late that comes from the host's own deadline."""

SOON = 1.0
"""Seconds within which whatever thaws in the place of a guard has to."""

_TAKE = Path(__file__).with_name("tasks") / "take.yml"
_PROGRESS = "/dev/shm/progress"


class Scene:
    """One host under load. ``stages`` is a folder for files that let the snapshot go on."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.stages = folder / "stages"
        self.stages.mkdir(parents=True)
        self._plays = itertools.count(1)
        self._load: subprocess.Popen[bytes] | None = None

    # Writers

    def write(self) -> None:
        """Have programs write to DATA until the end of the scene."""
        shutil.copy(PROGRAM, self.host.outside("/dev/shm/load.py"))
        argv = ("run", "--directory", DATA, "--progress", _PROGRESS, "--fio-rate", "0")
        self._load = subprocess.Popen(self._load_py(*argv), stdin=subprocess.DEVNULL)
        self.written()

    def written(self) -> dict[str, int]:
        """Return how much each writer has finished by now."""
        sample: dict[str, int] = json.loads(
            run(*self._load_py("sample", "--progress", _PROGRESS, "--ready", "20")).stdout
        )
        return sample

    def nothing_lost(self, sample: Mapping[str, int]) -> None:
        """Writers have gone on since ``sample``, and all that they wrote is there."""
        wait_for(lambda: all(self.written()[each] > sample[each] for each in sample), 10)
        self.stop_writing()
        argv = ("verify", "--snapshot-mount", DATA, "--progress", json.dumps(self.written()))
        verdict = json.loads(run(*self._load_py(*argv)).stdout)
        assert verdict["lost"] == 0, verdict

    def stop_writing(self) -> None:
        """End the writers; those that are blocked end with the thaw."""
        if self._load is not None:
            self._load.terminate()
            self._load.wait(30)
            self._load = None

    def _load_py(self, *argv: str) -> list[str]:
        return self.host.inside("python3", "/dev/shm/load.py", *argv)

    @contextmanager
    def slow(self, dirty_mib: int = 12, rate_mib: int = 4) -> Iterator[None]:
        """Hold the storage of DATA to a rate, with that much left to be written to it."""
        number = self.host.outside(DATA).stat().st_dev
        name = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        with throttled(f"/dev/{os.path.basename(name)}", rate_mib << 20):
            self.host.outside(f"{DATA}/dirty").write_bytes(os.urandom(dirty_mib << 20))
            yield

    # Plays

    @contextmanager
    def role(self, *, play: Mapping[str, Any] | None = None, **variables: Any) -> Iterator[Play]:
        """Run the role with these variables (without their prefix); the snapshot is a clone.

        :param play: more keywords of the play.
        """
        named = {"paths": list(PATHS), "timeout": TIMEOUT, "tasks": str(_TAKE), **variables}
        settings = {f"consistent_snapshot_{name}": value for name, value in named.items()}
        include = {
            "name": "Run the role",
            "ansible.builtin.include_role": {"name": "quiesce.storage.consistent_snapshot"},
            "vars": settings,
        }
        with self.play([include], **(play or {})) as running:
            yield running

    @contextmanager
    def play(
        self,
        tasks: Sequence[Mapping[str, Any]],
        settings: Mapping[str, str] | None = None,
        **play: Any,
    ) -> Iterator[Play]:
        """Run these tasks as root on the host."""
        images = [str(self.host.folder / f"{n}.img") for n, _path in enumerate(self.host.paths)]
        variables = self.host.variables(stages=str(self.stages), images=images)
        folder = self.folder / f"play-{next(self._plays)}"
        whole = {"hosts": "all", "tasks": list(tasks), **play}
        with playing(folder, {self.host.name: variables}, [whole], **(settings or {})) as running:
            yield running

    def let(self, *stages: str) -> None:
        """Let the snapshot go past these stages: ``frozen``, ``cloned``."""
        for stage in stages:
            (self.stages / stage).touch()

    # Looking

    def guards(self) -> list[int]:
        """Return the processes of guards on the host: of the machine, by pid."""
        own = os.readlink(f"/proc/{self.host.init}/ns/pid")
        found = []
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/pid") == own and ".pyz guard " in command(pid):
                    found.append(pid)
        return found

    def guard(self) -> tuple[int, int, list[int]]:
        """Return the pid of the guard, that of its second process, and those of its children."""
        pids = self.guards()
        (guard,) = [pid for pid in pids if children(pid)]
        below = children(guard)
        (second,) = [pid for pid in pids if pid != guard and pid not in below]
        return guard, second, below

    def wait_until(self, state: str, path: str = DATA, seconds: float = 30) -> float:
        """Wait until the kernel says so of one filesystem; return when that was (monotonic)."""
        wait_for(lambda: self.host.states()[path] == state, seconds)
        return time.monotonic()

    def thawed(self, seconds: float) -> float:
        """Wait until nothing at all is frozen; return when that was (monotonic)."""
        wait_for(lambda: set(self.host.states().values()) == {"thawed"}, seconds)
        return time.monotonic()

    def thawed_by_deadline(self, frozen_at: float, timeout: float = TIMEOUT) -> float:
        """Wait for the thaw, which the deadline has to bring; return by how much it was late."""
        late = self.thawed(timeout + 10) - frozen_at - timeout
        # The deadline began to run before the last of the freezes was seen.
        assert -LATE < late < LATE, f"{late:+.3f} s from the deadline"
        return late

    def no_guard_left(self) -> None:
        """Wait until the guards have ended."""
        wait_for(lambda: not self.guards(), 10)


@contextmanager
def scene(lab: Lab, folder: Path) -> Iterator[Scene]:
    """Start a host, and thaw and stop it at the end of the block."""
    with open_host(lab, separate=[DATA]) as host:
        set_up = Scene(host, folder)
        host.arm_thaw(90)
        try:
            yield set_up
        finally:
            host.thaw()
            set_up.stop_writing()
