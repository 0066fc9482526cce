# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``pause``: for how long writers wait while a snapshot is taken, by each method in turn."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kernel.lab import GIB, MIB, Filesystem, Lab, open_lab, run, throttled

from .agent import guest_agent
from .methods import METHODS, Target, play
from .records import Records
from .settings import Settings
from .writers import fill, prepare, writing

FSTYPES = ("ext4", "xfs")
STATES = ("clean", "dirty", "slow")
"""Nothing to flush; much; and that on a disk that is held to a rate."""

SETS = (1, 3, 10)
"""How many filesystems are frozen together."""

_RATE = 200_000_000
_SIZE = 4 * GIB
_SET_SIZE = 512 * MIB
# Past the end of a method, for operations that began while it was frozen.
_AFTER_SECONDS = 0.5
# Between the first operation of the writers and the method.
_BEFORE_SECONDS = 0.5
_THAW_SECONDS = 90.0
# A loop that writes past the page cache of what it is stored on, as a disk has none of ours.
_MKFS = {"ext4": (), "xfs": ("-s", "size=4096")}


def measure(records: Records, settings: Settings) -> None:
    """Take the measurements that are missing.

    :raises LabError: a tool failed.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        lab = stack.enter_context(open_lab())
        for fstype in FSTYPES:
            for state in STATES:
                _measure_state(records, settings, lab, folder, fstype, state)
            for number in SETS:
                _measure_set(records, settings, lab, folder, fstype, number)


def _measure_state(
    records: Records, settings: Settings, lab: Lab, folder: Path, fstype: str, state: str
) -> None:
    wanted = [
        key
        for number in range(settings.runs)
        for key in (
            {"run": number, "method": method, "dirty": settings.dirty} for method in METHODS
        )
        if not records.has(kind="stall", fstype=fstype, state=state, **key)
    ]
    if not wanted:
        return
    with _filesystem(lab, fstype, _SIZE) as filesystem, guest_agent(filesystem) as agent:
        target = Target(filesystem, agent, folder)
        prepare(filesystem.mountpoint)
        fill(filesystem.mountpoint / "dirty", settings.dirty)
        for key in wanted:
            stalls, pause = _stalls(target, lab, state, str(key["method"]), settings)
            settings.say(f"{fstype}, {state}, run {key['run']}, {key['method']}: {stalls}")
            settings.check()
            records.add(kind="stall", fstype=fstype, state=state, **key, **stalls, pause=pause)


def _stalls(
    target: Target, lab: Lab, state: str, method: str, settings: Settings
) -> tuple[dict[str, float], float | None]:
    """The longest operation of each writer while one snapshot is taken, and what the method says
    of the pause, in seconds."""
    filesystem = target.filesystem
    _settle(filesystem, lab)
    with contextlib.ExitStack() as stack:
        if state == "slow":
            stack.enter_context(throttled(lab.base.device, _RATE))
        writers = stack.enter_context(writing(filesystem.mountpoint, target.folder))
        if state != "clean":
            fill(filesystem.mountpoint / "dirty", settings.dirty)
        time.sleep(_BEFORE_SECONDS)
        stack.enter_context(_thawed_at_last(filesystem))
        began = time.monotonic()
        try:
            pause = METHODS[method](target)
        finally:
            filesystem.thaw()
        ended = time.monotonic()
        time.sleep(_AFTER_SECONDS)
        writers.stop()
        target.clone.unlink()
        return writers.longest(began, ended), pause


def _measure_set(
    records: Records, settings: Settings, lab: Lab, folder: Path, fstype: str, number: int
) -> None:
    wanted = [
        run_number
        for run_number in range(settings.runs)
        if not records.has(kind="set", fstype=fstype, number=number, run=run_number)
    ]
    if not wanted:
        return
    with contextlib.ExitStack() as stack:
        members = [
            stack.enter_context(_filesystem(lab, fstype, _SET_SIZE)) for _number in range(number)
        ]
        options = {"path": [str(each) for each in members], "commands": [["true"]]}
        tasks = [{"name": "Snapshot", "quiesce.storage.fsfreeze_run": options}]
        for run_number in wanted:
            for each in members:
                fill(each.mountpoint / "dirty", 16 * MIB)
            for each in members:
                stack.enter_context(_thawed_at_last(each))
            seconds = play(folder, tasks, "Snapshot")["frozen_seconds"]
            settings.say(f"{fstype}, a set of {number}, run {run_number}: {seconds}")
            settings.check()
            records.add(
                kind="set", fstype=fstype, number=number, run=run_number, frozen_seconds=seconds
            )


@contextmanager
def _filesystem(lab: Lab, fstype: str, size: int) -> Iterator[Filesystem]:
    with lab.filesystem(fstype, size, mkfs=_MKFS[fstype], direct_io=True) as made:
        yield made


def _settle(filesystem: Filesystem, lab: Lab) -> None:
    """The same state before every measurement: nothing left to be written, at any level."""
    for path in (filesystem.mountpoint, lab.base.mountpoint, lab.folder):
        run("sync", "--file-system", path, timeout=_THAW_SECONDS)


@contextmanager
def _thawed_at_last(filesystem: Filesystem) -> Iterator[None]:
    """Thaw it after a while, should what froze it not do so."""
    timer = threading.Timer(_THAW_SECONDS, filesystem.thaw)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
