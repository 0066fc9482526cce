# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault happens to: a host whose filesystems are written to, and plays that freeze them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._children import asleep

from tests.hosts import Host, open_host
from tests.kernel.lab import Filesystem, Lab, throttled
from tests.kernel.processes import children, command, wait_for

from .plays import Play, freeze_stay_thaw, playing, running
from .writers import LIGHT, Writers

DATA = "/srv"
PATHS = (DATA, "/")
"""What the plays freeze: a filesystem of its own, and the root of the host."""

TIMEOUT = 4
"""Seconds until the host thaws by itself, where a test says nothing else."""

LATE = 3.0
"""Seconds by which a thaw at the deadline may be late: it writes to a disk that tests keep busy."""

SOON = 5.0
"""Seconds within which whatever thaws at once has to: the machine may be busy with other tests."""

PATIENCE = 900
"""Seconds until a host is thawed that nobody else has thawed: longer than any test waits."""

PROMPT = 10.0
"""Seconds that a thaw that was asked for takes at the most, from the task of the play on."""

LIFTED = "the end of what the storage waits for"
"""What seconds count from where a thaw was held up by the storage."""

ON_THE_WAY = 15
"""The same where the play has to come to its next task in time, which a busy machine keeps up."""

FREEZE = "the freeze's start"
"""What seconds count from where a freeze failed."""

LEASE = "fault"
"""The lease of plays that freeze and thaw with the modules alone."""

_TAKE = Path(__file__).with_name("tasks") / "take.yml"


class Scene:
    """One host under load. ``stages`` is a folder for files that let the snapshot go on."""

    def __init__(self, host: Host, folder: Path, base: Filesystem) -> None:
        self.host = host
        self._base = base
        self.folder = folder
        # More about the host, for the inventory.
        self.variables: dict[str, Any] = {}
        self.stages = folder / "stages"
        self.stages.mkdir(parents=True)
        self._plays = itertools.count(1)
        self._writers: dict[str, Writers] = {}

    # Writers

    def write(self, path: str = DATA, per_second: int = 0) -> None:
        """Have programs write to a filesystem until the end of the scene."""
        self._writers[path] = Writers(self.host, path, per_second)

    def written(self) -> dict[str, int]:
        """Return how much each writer on DATA has finished by now."""
        return self._writers[DATA].written()

    def held_up(self) -> dict[str, int]:
        """Wait until all writers are blocked; return what is written on DATA."""
        return {path: each.held_up() for path, each in self._writers.items()}[DATA]

    def nothing_lost(self) -> None:
        """All writers of the scene go on now, and all that they wrote is there."""
        for each in self._writers.values():
            each.nothing_lost()

    def ended_and_kept(self, held_up: Mapping[str, int]) -> None:
        """The writers on DATA have ended since, as their names led nowhere; nothing is lost."""
        self._writers[DATA].ended_and_kept(held_up)

    def kept(self, sample: Mapping[str, int], mountpoint: Path) -> None:
        """All that had been written at ``sample`` is there, on a clone of DATA."""
        self._writers[DATA].kept(sample, mountpoint)

    def stop_writing(self) -> None:
        """End the writers, which may have ended; those that are blocked end with the thaw."""
        for each in self._writers.values():
            each.stop()

    @contextmanager
    def slow(self, dirty_mib: int = 12, rate_mib: int = 4) -> Iterator[None]:
        """Hold the storage of DATA to a rate, with that much left to be written to it."""
        with throttled(self.device(), rate_mib << 20):
            self.host.outside(f"{DATA}/dirty").write_bytes(os.urandom(dirty_mib << 20))
            yield

    @contextmanager
    def thawing(self) -> Iterator[None]:
        """Let the plays thaw. The guard has begun to, and does not come to the end of it in here.

        FITHAW of an ext4 writes its superblock; what the images are stored on is frozen meanwhile.
        """
        guard = self.guard()[0]
        deadlines = self.deadlines()
        assert self.frozen()
        with self._base.frozen(at_most=120):
            self.let("frozen", "cloned")
            wait_for(lambda: in_calls(guard) == len(PATHS), 60)
            assert time.time() < min(deadlines)
            assert self.frozen()
            yield
            assert self.frozen()

    def cloned(self, play: Play) -> None:
        """Let the play of a role clone the images, and wait until that is done."""
        self.let("frozen")
        play.wait("start", "Clone the images")
        wait_for(
            lambda: (
                len([*self.host.folder.glob("*.img.*")]) == len(PATHS)
                and not any(command(pid).startswith("cp ") for pid in play.processes())
            ),
            60,
        )

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
        """Let a short play thaw; return how many seconds that took, and what came of it.

        It comes promptly, and before a deadline does it.
        """
        deadlines = self.deadlines()
        self.let("frozen")
        asked = float(play.wait("start", "Thaw")["at"])
        seconds = self.thawed(PROMPT) - asked
        assert seconds < PROMPT
        assert time.time() < min(deadlines)
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

    def is_thawed(self) -> bool:
        """Whether nothing of the host is frozen."""
        return set(self.host.states().values()) == {"thawed"}

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

    def wait_until(self, state: str, path: str = DATA, seconds: float = 240) -> float:
        """Wait until the kernel says so of one filesystem; return when that was (monotonic)."""
        wait_for(lambda: self.host.states()[path] == state, seconds)
        return time.monotonic()

    def thawed(self, seconds: float) -> float:
        """Wait until nothing at all is frozen; return when that was (monotonic)."""
        wait_for(self.is_thawed, seconds)
        return time.monotonic()

    def thawed_soon(self) -> float:
        """Wait until nothing at all is frozen, which has to be soon; return how long that took."""
        began = time.monotonic()
        return self.thawed(SOON) - began

    def thawed_by_deadline(
        self, deadline: float = 0.0, patience: float = 60, early: bool = False
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

    def records(self) -> list[dict[str, Any]]:
        """Return what is written on the host of leases; of one that was thawed as asked, nothing.

        That is, once its guard has ended.
        """
        records = self.host.outside("/run/quiesce").glob("lease-*/record")
        return [json.loads(record.read_text()) for record in records]

    def deadlines(self) -> list[float]:
        """Return until when the leases on the host last, as they say (seconds since 1970)."""
        deadlines = [record["lease"]["deadline"] for record in self.records()]
        return [datetime.fromisoformat(each).timestamp() for each in deadlines]

    def no_guard_left(self) -> None:
        """Wait until the guards have ended."""
        wait_for(lambda: not self.guards(), 30)


def nothing_is_left(scenes: Sequence[Scene]) -> None:
    """On these hosts nothing is frozen, no guard is there, and writers have gone on."""
    for each in scenes:
        assert each.is_thawed()
        each.no_guard_left()
        each.nothing_lost()


def in_calls(pid: int) -> int:
    """How many threads of a process wait in a call that nothing can interrupt."""
    with contextlib.suppress(FileNotFoundError):
        return sum(bool(asleep(pid, int(task))) for task in os.listdir(f"/proc/{pid}/task"))
    return 0


@contextmanager
def full(stage: Scene, *folders: str) -> Iterator[None]:
    """Leave not a byte on these tmpfs of the host."""
    fillers = [stage.host.outside(f"{folder}/filler") for folder in folders]
    try:
        for filler in fillers:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(1 << 16))
        yield
    finally:
        for filler in fillers:
            filler.unlink(missing_ok=True)


@contextmanager
def watched(host: Host) -> Iterator[None]:
    """Thaw all of a host after PATIENCE at the latest, and at the end of the block.

    AssertionError at the end where that found something frozen: nobody else had thawed it.
    """
    found: list[str] = []
    watch = threading.Timer(PATIENCE, lambda: found.extend(host.thaw()))
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()
        watch.join()
        found += host.thaw()
    assert not found, f"left frozen on {host}: {found}"


@contextmanager
def three_hosts(lab: Lab, folder: Path) -> Iterator[list[Scene]]:
    """Start three hosts with writers on them, and thaw and stop them at the end of the block."""
    with ExitStack() as stack:
        scenes = [stack.enter_context(scene(lab, folder / f"scene-{n}")) for n in range(3)]
        for each in scenes:
            each.write(per_second=LIGHT)
        yield scenes


@contextmanager
def scene(
    lab: Lab, folder: Path, fstype: str = "ext4", separate: Sequence[str] = (DATA,)
) -> Iterator[Scene]:
    """Start a host, and thaw and stop it at the end of the block.

    :param fstype: of DATA: ``ext4`` or ``xfs``.
    :param separate: its filesystems beside the root.
    """
    with open_host(lab, separate=separate, fstypes={DATA: fstype}) as host:
        set_up = Scene(host, folder, lab.base)
        with contextlib.ExitStack() as stack:
            # When all is thawed: those that are blocked could not end before.
            stack.callback(set_up.stop_writing)
            stack.enter_context(watched(host))
            yield set_up
