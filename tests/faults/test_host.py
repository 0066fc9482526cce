# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host has no room, no memory and no processes left. What is frozen thaws all the same."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.kernel.processes import command, wait_for

from .scene import FREEZE, Scene, full
from .table import Table

NOTHING = "nothing was frozen"
REQUEST = "the guard, on request"
DEADLINE = "the guard, at its deadline"
_CGROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


@contextmanager
def read_only(stage: Scene, *folders: str) -> Iterator[None]:
    """Make these folders of the host read-only.

    By a mount of their own: the kernel makes no filesystem read-only that a guard writes to.
    """
    for folder in folders:
        stage.host.run("mount", "--bind", folder, folder)
        stage.host.run("mount", "-o", "remount,bind,ro", folder)
    try:
        yield
    finally:
        for folder in folders:
            stage.host.run("umount", "--lazy", folder)


@contextmanager
def limited(
    stage: Scene, controller: str, pids: Sequence[int], setting: str, value: int
) -> Iterator[Path]:
    """Put processes of the host into a cgroup (v1) with this setting."""
    root = _CGROUPS / controller
    group = root / f"quiesce-{stage.host.name}-{stage.host.init}"
    group.mkdir()
    try:
        for pid in pids:
            (group / "cgroup.procs").write_text(f"{pid}")
        (group / setting).write_text(f"{value}")
        yield group
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (root / "cgroup.procs").write_text(left)
        wait_for(lambda: not (group / "cgroup.procs").read_text(), 5)
        group.rmdir()


Trouble = Callable[..., AbstractContextManager[None]]
TROUBLES: dict[str, tuple[Trouble, str]] = {
    "full": (full, "No space left on device"),
    "read-only": (read_only, "Read-only file system"),
}
troubles = pytest.mark.parametrize("trouble", TROUBLES)


@troubles
def test_run_before_the_freeze(stage: Scene, table: Table, trouble: str):
    make, why = TROUBLES[trouble]
    with make(stage, "/run"), stage.short() as play:
        assert play.finish() == 2
        failed = play.wait("failed", "Freeze")
        message = failed["result"]["msg"]
        assert why in message
        assert "nothing was frozen" in message
        seconds = failed["at"] - play.wait("start", "Freeze")["at"]
        assert stage.is_thawed()
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("host", f"/run {trouble} before the freeze", NOTHING, seconds, FREEZE)


@troubles
def test_run_before_another_freeze(stage: Scene, table: Table, trouble: str):
    """What an earlier freeze has left under /run is there, and there is no room for more."""
    make, _why = TROUBLES[trouble]
    stage.let("frozen")
    with stage.short() as play:
        assert play.finish() == 0
    with make(stage, "/run"), stage.short() as play:
        assert play.finish() == 2
        failed = play.wait("failed", "Freeze")
        message = failed["result"]["msg"]
        assert re.search("full,? or read-only", message)
        assert "nothing was frozen" in message
        seconds = failed["at"] - play.wait("start", "Freeze")["at"]
        assert stage.is_thawed()
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("host", f"/run {trouble} before another freeze", NOTHING, seconds, FREEZE)


WHERE: dict[str, tuple[str, tuple[str, ...]]] = {
    "/run full": ("full", ("/run",)),
    "/run read-only": ("read-only", ("/run",)),
    "/dev/shm full": ("full", ("/dev/shm",)),
    "/run and /dev/shm full": ("full", ("/run", "/dev/shm")),
}


@pytest.mark.parametrize("where", WHERE)
def test_no_room_while_frozen(stage: Scene, table: Table, where: str):
    trouble, folders = WHERE[where]
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        with TROUBLES[trouble][0](stage, *folders):
            assert stage.frozen()
            seconds = stage.thaw_well(play)
            stage.no_guard_left()
    stage.nothing_lost()
    table.note("host", f"{where} while frozen", REQUEST, seconds, "the request")


@pytest.mark.parametrize("where", WHERE)
def test_no_room_at_the_deadline(stage: Scene, table: Table, where: str):
    """The play comes too late, and is told so although no record could be written."""
    trouble, folders = WHERE[where]
    with stage.short() as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        with TROUBLES[trouble][0](stage, *folders):
            assert stage.frozen()
            late = stage.thawed_by_deadline()
            stage.let("frozen")
            result = play.wait("ok", "Thaw")["result"]
            # The record keeps room to say why. Where nothing at all can be written, a guard that
            # has ended since is one that is lost.
            reasons = {"deadline"} if trouble == "full" else {"deadline", "guard_lost"}
            assert not result["held"]
            assert result["thawed_by"] in reasons
            assert play.finish() == 0
            stage.no_guard_left()
    stage.nothing_lost()
    table.note("host", f"{where}, until the deadline", DEADLINE, late, "deadline")


def test_out_of_memory(stage: Scene, table: Table):
    """The OOM killer takes what is largest, and never a guard."""
    hog = "b = [bytearray(1 << 20) for _ in range(512)]"
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        guards = stage.guards()
        kept = [*guards, *(pid for pid in stage.processes() if "sshd" in command(pid))]

        limit = ("memory.limit_in_bytes", 96 * MIB)
        with limited(stage, "memory", kept, *limit) as group:
            # Its shell comes into the group before the program begins to take memory.
            enter = f'echo $$ >{group}/cgroup.procs; exec "$@"'
            argv = ["sh", "-c", enter, "sh", *stage.host.inside("python3", "-c", hog)]
            taken = subprocess.run(argv, check=False, timeout=60)
            assert taken.returncode == -9
            assert "oom_kill 0" not in (group / "memory.oom_control").read_text()
            assert stage.guards() == guards
            seconds = stage.thaw_well(play)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("host", "out of memory while frozen", REQUEST, seconds, "the request")


def test_no_process_left(stage: Scene, table: Table):
    """Nobody can log in any more, and the guard can start nothing. It thaws at its deadline."""
    with stage.short() as play:
        play.wait("start", "Be frozen")
        stage.held_up()

        with limited(stage, "pids", stage.processes(), "pids.max", 1):
            assert stage.frozen()
            late = stage.thawed_by_deadline()
        stage.let("frozen")
        result = play.wait("ok", "Thaw")["result"]
        assert result["held"] is False
        assert result["thawed_by"] == "deadline"
        assert play.finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("host", "no process can be started while frozen", DEADLINE, late, "deadline")
