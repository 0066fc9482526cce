# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage that is too slow, that is gone, and that has no room left."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import MIB, Lab, run
from tests.kernel.processes import wait_for

from .scene import DATA, FREEZE, LATE, SOON, Scene, scene
from .table import Table

GUARD = "the guard, at once; the slow one when the kernel is done"
NOTHING = "nothing was frozen"
REQUEST = "the guard, on request"
DEADLINE = "the guard, at its deadline"
# The one on the storage in question comes last.
IN_ORDER = ["/", DATA]

# linux/loop.h
_SET_STATUS, _GET_STATUS = 0x4C04, 0x4C05
_STATUS_SIZE = 232
_SIZE_LIMIT = 32
_FSTYPES = ("ext4", "xfs")
# fsck(8): what was wrong has been corrected.
_CORRECTED = 1


@pytest.fixture(params=_FSTYPES)
def of_each_type(
    request: pytest.FixtureRequest, lab: Lab, tmp_path: Path, turn: int
) -> Iterator[Scene]:
    """Give a host of its own, as ``stage`` does, with DATA of each type."""
    with scene(lab, tmp_path / "scene", request.param) as set_up:
        if request.param == "ext4":
            set_up.host.run("mount", "-o", "remount,errors=remount-ro", DATA)
        set_up.write()
        yield set_up


def fstype(stage: Scene) -> str:
    """Return the type of the filesystem on DATA."""
    return stage.host.run("findmnt", "--noheadings", "--output", "FSTYPE", DATA).strip()


@contextmanager
def gone(device: str) -> Iterator[None]:
    """Have all but the first 4 KiB of a loop device answer with errors; what is on it is kept."""
    _limit(device, 4096)
    try:
        yield
    finally:
        _limit(device, 0)


def _limit(device: str, size: int) -> None:
    fd = os.open(device, os.O_RDWR)
    try:
        status = bytearray(_STATUS_SIZE)
        fcntl.ioctl(fd, _GET_STATUS, status)
        struct.pack_into("<Q", status, _SIZE_LIMIT, size)
        fcntl.ioctl(fd, _SET_STATUS, bytes(status))
    finally:
        os.close(fd)


@contextmanager
def no_room(folder: Path) -> Iterator[None]:
    """Leave no room on the filesystem of a folder, which sparse images are stored on."""
    filler = folder / "filler"
    try:
        with filler.open("wb") as stream:
            size, end = 1 << 40, 0
            while size >= 4096:
                try:
                    os.posix_fallocate(stream.fileno(), end, size)
                    end += size
                except OSError:
                    size //= 2
        yield
    finally:
        filler.unlink(missing_ok=True)


def stored(stage: Scene, lab: Lab, kind: str, sample: dict[str, int]) -> None:
    """What had been written at ``sample`` is on the storage, whatever came afterwards.

    It is looked at as by who has mended the storage: ext4 commits what its journal had no room
    for, and mounts only after a repair then, whether it was frozen before or not.
    """
    clone = stage.host.folder / "clone.img"
    run("cp", "--reflink=always", stage.host.images()[DATA], clone)
    if kind == "ext4":
        repaired = run("e2fsck", "-fy", clone, check=False)
        assert repaired.returncode in (0, _CORRECTED), repaired.stdout
    with lab.mounted(clone, kind) as mountpoint:
        # A file that was renamed over an old one since then, and had no room, is not asked for.
        stage.kept({**sample, "rename": 0}, mountpoint)


def grow(path: Path) -> None:
    """Write a file that takes new room on the storage, and wait until it is there."""
    with path.open("wb") as stream:
        stream.write(os.urandom(8 * MIB))
        os.fsync(stream.fileno())


def released(stage: Scene) -> float:
    """Wait until the kernel has done with the slow freeze; return how long it stayed frozen."""
    wait_for(lambda: stage.host.states()[DATA] != "freezing", 30)
    began = time.monotonic()
    return stage.thawed(10) - began


# --- Slow ----------------------------------------------------------------------------------


def test_slower_than_freeze_timeout(stage: Scene, table: Table):
    options: dict[str, Any] = {"path": IN_ORDER, "flush": False, "freeze_timeout": 1, "timeout": 30}
    with stage.slow(), stage.short(**options) as play:
        stage.wait_until("freezing")
        began = time.monotonic()
        stage.wait_until("frozen", "/")
        late = stage.wait_until("thawed", "/") - began - 1
        assert late < LATE
        assert released(stage) < SOON
        result = play.wait("failed", "Freeze")["result"]
        assert "within 1 s (freeze_timeout)" in result["msg"]
        assert DATA in result["msg"]
        assert play.finish() == 2
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("storage", "slower than freeze_timeout", GUARD, late, "freeze_timeout")


def test_slower_than_the_deadline(stage: Scene, table: Table):
    options: dict[str, Any] = {"path": IN_ORDER, "flush": False, "timeout": 2}
    with stage.slow(dirty_mib=16), stage.short(**options) as play:
        stage.wait_until("freezing")
        (deadline,) = stage.deadlines()
        stage.wait_until("frozen", "/")
        stage.wait_until("thawed", "/")
        late = time.time() - deadline
        assert 0 <= late < LATE
        assert released(stage) < SOON
        result = play.wait("failed", "Freeze")["result"]
        assert "was not frozen when the deadline (timeout: 2 s) came" in result["msg"]
        assert DATA in result["msg"]
        assert play.finish() == 2
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("storage", "slower than the deadline", GUARD, late, "deadline")


# --- Gone ----------------------------------------------------------------------------------


def test_gone_before_the_freeze(of_each_type: Scene, table: Table):
    """Who writes there gets errors, and so does the freeze. The rest of the set is thawed."""
    stage = of_each_type
    kind = fstype(stage)
    with gone(stage.device()), stage.short(path=IN_ORDER, timeout=30) as play:
        failed = play.wait("failed", "Freeze")
        assert DATA in failed["result"]["msg"]
        stage.thawed(SOON)
        seconds = failed["at"] - play.wait("start", "Freeze")["at"]
        assert play.finish() == 2
        stage.no_guard_left()
        stage.stop_writing()
    table.note("storage", f"gone before the freeze ({kind})", NOTHING, seconds, FREEZE)


def test_gone_while_frozen(of_each_type: Scene, lab: Lab, table: Table):
    """The thaw gets through, and what had been written before the freeze is on the storage."""
    stage = of_each_type
    kind, device = fstype(stage), stage.device()
    with stage.short(path=IN_ORDER, timeout=30) as play:
        play.wait("start", "Be frozen")
        sample = stage.held_up()
        with gone(device):
            assert stage.frozen()
            seconds = stage.thaw_well(play)
            stage.stop_writing()
    stage.no_guard_left()
    stored(stage, lab, kind, sample)
    table.note("storage", f"gone while frozen ({kind})", REQUEST, seconds, "the request")


def test_gone_until_the_deadline(of_each_type: Scene, lab: Lab, table: Table):
    stage = of_each_type
    kind, device = fstype(stage), stage.device()
    with stage.short(path=IN_ORDER) as play:
        play.wait("start", "Be frozen")
        sample = stage.held_up()
        with gone(device):
            assert stage.frozen()
            late = stage.thawed_by_deadline()
            stage.let("frozen")
            result = play.wait("ok", "Thaw")["result"]
            assert (result["held"], result["thawed_by"]) == (False, "deadline")
            assert play.finish() == 0
            stage.stop_writing()
    stage.no_guard_left()
    stored(stage, lab, kind, sample)
    fault = f"gone while frozen, until the deadline ({kind})"
    table.note("storage", fault, DEADLINE, late, "deadline")


# --- Full ----------------------------------------------------------------------------------


def test_no_room_while_frozen(of_each_type: Scene, lab: Lab, table: Table):
    """The sparse image on the other side can grow no more: writers get errors after the thaw."""
    stage = of_each_type
    kind = fstype(stage)
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        sample = stage.held_up()
        with no_room(stage.host.folder):
            assert stage.frozen()
            seconds = stage.thaw_well(play)
            with pytest.raises(OSError, match=r"No space left|Input/output error|Read-only"):
                grow(stage.host.outside(f"{DATA}/grown"))
            stage.stop_writing()
    stage.no_guard_left()
    stored(stage, lab, kind, sample)
    table.note("storage", f"no room while frozen ({kind})", REQUEST, seconds, "the request")
