# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scenario on one filesystem: its time, processes and leases, and what must hold at its end."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel import modules
from tests.kernel.lab import FSTYPES, Filesystem, Lab, run
from tests.kernel.lab.loops import is_claimed
from tests.kernel.processes import of_lease, wait_for

SECONDS = float(os.environ.get("QUIESCE_TORTURE_SECONDS", "30"))
# A scenario that is repeated for each type of filesystem shares its time among them.
SHARE = SECONDS / len(FSTYPES)
SEED = int(os.environ.get("QUIESCE_TORTURE_SEED", str(random.randrange(10**6))))
# Seconds. A module takes half of one; with thirty processes for each processor it took 40.
PATIENCE = 180.0

_HERE = Path(__file__).parent
_FSCK = {
    "ext4": ("e2fsck", "-fn"),
    "xfs": ("xfs_repair", "-n"),
    "btrfs": ("btrfs", "check", "--readonly"),
}


def say(text: str) -> None:
    """Tell whoever watches, with a time stamp."""
    print(f"    {time.strftime('%H:%M:%S')} {text}", flush=True)


@dataclass
class Scene:
    """What a scenario works with; made by :func:`scene`."""

    lab: Lab
    name: str
    filesystem: Filesystem
    seconds: float
    random: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    leases: set[str] = field(default_factory=set)
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _end: float = 0.0

    def rounds(self, at_least: int) -> Iterator[int]:
        """Count from 1 until the time is over; on a slow machine, that many rounds all the same."""
        self.begin()
        number = 0
        while number < at_least or self.running():
            number += 1
            yield number

    def begin(self) -> None:
        """The time begins."""
        self._end = time.monotonic() + self.seconds

    def running(self) -> bool:
        """Whether there is time left."""
        return self.overtime() < 0

    def overtime(self) -> float:
        """Seconds since the time was over; below 0 while there is some left."""
        return time.monotonic() - self._end

    def lease(self, name: str) -> str:
        """A lease's name that no other run has, remembered for the end."""
        full = f"torture-{os.getpid()}-{name}"
        self.leases.add(full)
        return full

    def log(self, name: str) -> Path:
        """A path for a log, on another filesystem."""
        return self.lab.folder / f"{self.filesystem.name}.{name}"

    # Modules

    def freeze(self, name: str = "torture", *, on: Any = None, **options: Any) -> dict[str, Any]:
        """``fsfreeze state=frozen`` of the filesystem (or of ``on``) under a lease."""
        options.setdefault("timeout", 60)
        lease = self.lease(name)
        answer = modules.freeze(on or self.filesystem, lease=lease, patience=PATIENCE, **options)
        self.counts["freezes"] += 1
        return answer

    def thaw(self, name: str = "torture", *, on: Any = None) -> dict[str, Any]:
        """``fsfreeze state=thawed`` of that lease."""
        lease = self.lease(name)
        answer = modules.thaw(on or self.filesystem, lease=lease, patience=PATIENCE)
        self.counts["thaws"] += 1
        return answer

    def state(self, path: Any = None) -> str:
        """The kernel's state of the filesystem at ``path``, asked for in this process."""
        fd = os.open(str(path or self.filesystem.mountpoint), os.O_RDONLY)
        try:
            return _reader().state(fd)
        finally:
            os.close(fd)

    # Processes

    def start(self, program: str, *argv: Any) -> subprocess.Popen[bytes]:
        """Start a program of this folder; it is ended with the scene."""
        words = [sys.executable, str(_HERE / program), *map(str, argv)]
        process = subprocess.Popen(words, env=modules.environment(), stdin=subprocess.DEVNULL)
        self._children.append(process)
        return process

    def end_children(self) -> None:
        """SIGTERM to all, and wait; AssertionError if one will not end, or had failed."""
        for process in self._children:
            process.terminate()
        ended = [self._ended(process) for process in self._children]
        self._children.clear()
        assert all(rc in (0, -15) for rc in ended), f"processes ended with {ended}"

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            words = [str(word) for word in process.args]  # type: ignore[union-attr]
            raise AssertionError(
                f"will not end: {' '.join(words)}: {_sleep(process.pid)}"
            ) from None

    # The end

    def assert_quiet(self) -> None:
        """Nothing frozen, no process of a guard left, nobody asleep, no record unexplained."""
        for lease in sorted(self.leases):
            wait_for(lambda lease=lease: not of_lease(lease), PATIENCE)  # type: ignore[misc]
            assert not _lease.guarded(lease), lease
            record = _lease.read(lease)
            left = os.path.isdir(_lease.folder(lease))
            assert not left or (record and record["ended"]), f"{lease}: {record}"
            _lease.forget(lease)
        assert self.state() == "thawed"

    def end_by_force(self) -> None:
        """Whatever went wrong: thaw, and end every process that was started."""
        self.filesystem.thaw()
        for lease in self.leases:
            for pid in of_lease(lease):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 15)
        for process in self._children:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)

    def check(self, *, log_replay: bool = False) -> None:
        """Unmount it, have its own checker find nothing wrong, and mount it again.

        :param log_replay: it was shut down; mount it once before, as its checker wants it.
        """
        if log_replay:
            self.unmount()
            self.filesystem.mount()
        self.unmount()
        try:
            done = run(*_FSCK[self.filesystem.fstype], self.filesystem.device, check=False)
            assert done.returncode == 0, f"rc {done.returncode}: {done.stdout}{done.stderr}"
            self.counts["checks"] += 1
        finally:
            self.filesystem.mount()

    def unmount(self) -> None:
        """Unmount it, and wait until the kernel has let go of it.

        A new mount namespace of anybody's begins with a copy of the mount, and holds it a while.
        """
        self.filesystem.unmount()
        wait_for(lambda: not is_claimed(self.filesystem.device), PATIENCE)

    def report(self, **at_least: int) -> None:
        """Say what was done; AssertionError if it was too little to mean anything."""
        done = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        say(f"{self.name}, {self.filesystem.fstype}: {done}")
        short = {k: self.counts[k] for k, wanted in at_least.items() if self.counts[k] < wanted}
        assert not short, f"only {short}, and at least {at_least} is needed"


_READERS: list[Reader] = []


def _reader() -> Reader:
    if not _READERS:
        _READERS.append(Reader())
    return _READERS[0]


def _sleep(pid: int) -> str:
    """Where a process sleeps."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return f"state {state} in {Path(f'/proc/{pid}/wchan').read_text()}"
    return "gone"


@contextlib.contextmanager
def watched(seconds: float, devices: Sequence[str]) -> Iterator[None]:
    """Have a process outside thaw these devices when the time is over or this process is dead.

    AssertionError if it came to that.
    """
    argv = [sys.executable, str(_HERE / "watchdog.py"), str(seconds), *devices]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
        assert process.poll() is None, f"the watchdog had to thaw after {seconds} s"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def scene(
    lab: Lab, name: str, fstype: str, *, seconds: float = SHARE, **options: Any
) -> Iterator[Scene]:
    """Make a filesystem, and hold it against what every scenario has to leave behind.

    :param options: of ``Lab.filesystem``.
    """
    with lab.filesystem(fstype, **options) as made:
        devices = [each.device for each in _below(made)]
        say(f"{name}, {fstype}: {seconds:.0f} s, seed {SEED}")
        with watched(seconds + 4 * PATIENCE, devices):
            playing = Scene(lab, name, made, seconds, random.Random(f"{SEED} {name} {fstype}"))
            try:
                yield playing
                playing.end_children()
                playing.assert_quiet()
            finally:
                playing.end_by_force()


def _below(made: Filesystem) -> Iterator[Filesystem]:
    """The filesystem, and those of the lab that it is stored on, but not the base."""
    each: Filesystem | None = made
    while each is not None and each.on is not None:
        yield each
        each = each.on


def outcome(call: Callable[..., dict[str, Any]], *args: Any, **options: Any) -> dict[str, Any]:
    """The answer of a module, also where that is a failure."""
    try:
        return call(*args, **options)
    except modules.Failed as failed:
        return failed.result
