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
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from playbooks.files.load import sample, verify
from tests.hosts import Host, open_host
from tests.kernel.lab import Lab, throttled
from tests.kernel.lab.load import PROGRAM
from tests.kernel.processes import children, command, wait_for

from .plays import Play, freeze_stay_thaw, playing, running

DATA = "/srv"
PATHS = (DATA, "/")
"""What the plays freeze: a filesystem of its own, and the root of the host."""

TIMEOUT = 4
"""Seconds until the host thaws by itself, where a test says nothing else."""

LATE = 3.0
"""Seconds by which a thaw at the deadline may be late: it writes to a disk that tests keep busy."""

SOON = 1.0
"""Seconds within which whatever thaws in the place of a guard has to."""

LEASE = "fault"
"""The lease of plays that freeze and thaw with the modules alone."""

_TAKE = Path(__file__).with_name("tasks") / "take.yml"
_PROGRESS = "/dev/shm/progress"


class Scene:
    """One host under load. ``stages`` is a folder for files that let the snapshot go on."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        # More about the host, for the inventory.
        self.variables: dict[str, Any] = {}
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
        return sample(self.host.outside(_PROGRESS), 20)

    def nothing_lost(self, sample: Mapping[str, int]) -> None:
        """Writers have gone on since ``sample``, and all that they wrote is there."""
        wait_for(lambda: all(self.written()[each] > sample[each] for each in sample), 10)
        self.stop_writing()
        self.kept(self.written())

    def kept(self, sample: Mapping[str, int], mountpoint: Path | None = None) -> None:
        """All that had been written at ``sample`` is there.

        :param mountpoint: of a clone of DATA; DATA itself when not given.
        """
        verdict = verify(mountpoint or self.host.outside(DATA), dict(sample))
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
        with throttled(self.device(), rate_mib << 20):
            self.host.outside(f"{DATA}/dirty").write_bytes(os.urandom(dirty_mib << 20))
            yield

    def device(self) -> str:
        """Return the block device that DATA is on."""
        number = self.host.outside(DATA).stat().st_dev
        name = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        return f"/dev/{os.path.basename(name)}"

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
        with self.play([include], **(play or {})) as started:
            yield started

    @contextmanager
    def play(
        self,
        tasks: Sequence[Mapping[str, Any]],
        settings: Mapping[str, str] | None = None,
        **play: Any,
    ) -> Iterator[Play]:
        """Run these tasks as root on the host."""
        images = [str(image) for image in self.host.images().values()]
        variables = self.host.variables(stages=str(self.stages), images=images, **self.variables)
        folder = self.folder / f"play-{next(self._plays)}"
        whole = {"hosts": "all", "tasks": list(tasks), **play}
        with playing(folder, {self.host.name: variables}, [whole], **(settings or {})) as started:
            yield started

    @contextmanager
    def short(self, stage: str = "frozen", **options: Any) -> Iterator[Play]:
        """Run a play of the modules alone: ``Freeze``, ``Be frozen`` until ``stage``, ``Thaw``.

        :param options: of the freeze; PATHS, TIMEOUT and LEASE where nothing else is said.
        """
        options = {"path": list(PATHS), "timeout": TIMEOUT, "lease": LEASE, **options}
        waiting = f"until [ -e {self.stages / stage} ]; do sleep 0.1; done"
        with self.play([freeze_stay_thaw(waiting, **options)]) as play:
            yield play

    @contextmanager
    def break_glass(self, *paths: str) -> Iterator[Play]:
        """Run the playbook ``quiesce.storage.thaw`` for these paths of the host, or for all."""
        folder = self.folder / f"play-{next(self._plays)}"
        folder.mkdir()
        named = {"thaw_hosts": self.host.name, **self.host.variables()}
        if paths:
            named["thaw_paths"] = paths
        argv = ["-i", f"{self.host.name},", "quiesce.storage.thaw", "-e", json.dumps(named)]
        with running(folder, argv, {}) as play:
            yield play

    def let(self, *stages: str) -> None:
        """Let the snapshot go past these stages: ``frozen``, ``cloned``."""
        for stage in stages:
            (self.stages / stage).touch()

    def request_thaw(self, play: Play) -> tuple[float, dict[str, Any]]:
        """Let a short play thaw; return how many seconds that took, and what came of it."""
        self.let("frozen")
        asked = float(play.wait("start", "Thaw")["at"])
        seconds = self.thawed(30) - asked
        result: dict[str, Any] = play.wait("ok", "Thaw")["result"]
        return seconds, result

    def thaw_well(self, play: Play) -> float:
        """Let a short play thaw what was held without a break, and end; return the seconds."""
        seconds, result = self.request_thaw(play)
        assert (result["held"], result["thawed_by"]) == (True, "request")
        assert play.finish() == 0
        return seconds

    # Looking

    def frozen(self) -> bool:
        """Whether all of the host is frozen."""
        return set(self.host.states().values()) == {"frozen"}

    def processes(self) -> list[int]:
        """Return the processes on the host: of the machine, by pid."""
        own = os.readlink(f"/proc/{self.host.init}/ns/pid")
        found = []
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/pid") == own:
                    found.append(pid)
        return found

    def guards(self) -> list[int]:
        """Return the processes of guards on the host."""
        return [pid for pid in self.processes() if ".pyz guard " in command(pid)]

    def guards_of(self, lease: str) -> list[int]:
        """Return the processes that hold this lease."""
        return [pid for pid in self.guards() if command(pid).endswith(f" {lease}")]

    def guard(self) -> tuple[int, int, list[int]]:
        """Return the pid of the guard, that of its second process, and those of its children."""
        pids = self.guards()
        (guard,) = [pid for pid in pids if children(pid)]
        below = children(guard)
        (second,) = [pid for pid in pids if pid != guard and pid not in below]
        return guard, second, below

    def wait_until(self, state: str, path: str = DATA, seconds: float = 60) -> float:
        """Wait until the kernel says so of one filesystem; return when that was (monotonic)."""
        wait_for(lambda: self.host.states()[path] == state, seconds)
        return time.monotonic()

    def thawed(self, seconds: float) -> float:
        """Wait until nothing at all is frozen; return when that was (monotonic)."""
        wait_for(lambda: set(self.host.states().values()) == {"thawed"}, seconds)
        return time.monotonic()

    def thawed_by_deadline(
        self, deadline: float = 0.0, patience: float = 30, early: bool = False
    ) -> float:
        """Wait for the thaw, which the deadline has to bring; return by how much it was late.

        :param deadline: where that has been read before (seconds since 1970).
        :param early: it may come before, too.
        """
        deadline = deadline or max(self.deadlines())
        self.thawed(patience)
        late = time.time() - deadline
        assert late < LATE, f"{late:+.3f} s from the deadline"
        assert early or late >= 0, f"{late:+.3f} s from the deadline"
        return late

    def deadlines(self) -> list[float]:
        """Return until when the leases on the host last, as they say (seconds since 1970)."""
        records = self.host.outside("/run/quiesce").glob("lease-*/record")
        leases = [json.loads(record.read_text())["lease"] for record in records]
        return [datetime.fromisoformat(each["deadline"]).timestamp() for each in leases]

    def no_guard_left(self) -> None:
        """Wait until the guards have ended."""
        wait_for(lambda: not self.guards(), 10)


@contextmanager
def three_hosts(lab: Lab, seconds: float) -> Iterator[list[Host]]:
    """Start three hosts, thaw them after ``seconds`` at the latest, and stop them at the end."""
    with ExitStack() as stack:
        hosts = [stack.enter_context(open_host(lab, separate=[DATA])) for _number in range(3)]
        for host in hosts:
            host.arm_thaw(seconds)
            stack.callback(host.thaw)
        yield hosts


@contextmanager
def scene(lab: Lab, folder: Path, fstype: str = "ext4") -> Iterator[Scene]:
    """Start a host, and thaw and stop it at the end of the block.

    :param fstype: of DATA: ``ext4`` or ``xfs``.
    """
    with open_host(lab, separate=[DATA], fstypes={DATA: fstype}) as host:
        set_up = Scene(host, folder)
        host.arm_thaw(90)
        try:
            yield set_up
        finally:
            host.thaw()
            set_up.stop_writing()
