# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody freezes, thaws, mounts and unmounts by hand while a play has the host frozen."""

from __future__ import annotations

import time

import pytest

from tests.hosts.host import Host
from tests.kernel.lab import run

from .scene import DATA, PATHS, Scene
from .table import Table

HAND = "the hand"
REQUEST = "the guard, on request"
OUTSIDE = "somebody outside of this collection"


def by_hand(host: Host, *argv: str) -> str:
    """Run a command on the host that has to fail; return what it says."""
    done = run(*host.inside(*argv), check=False)
    assert done.returncode != 0
    return done.stderr.strip()


def test_thawed_while_frozen(stage: Scene, table: Table):
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        stage.host.run("fsfreeze", "-u", DATA)
        assert stage.host.frozen() == ["/"]
        seconds, result = stage.request_thaw(play)
        assert (result["held"], result["thawed_by"]) == (False, "other")
        assert play.finish() == 0
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("hands", "fsfreeze -u while frozen", f"{HAND}; {REQUEST}", seconds, "the request")


def test_thawed_and_frozen_again(stage: Scene, table: Table):
    """The second freeze is not ours: it is left alone, said, and ended by the playbook."""
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        stage.host.run("fsfreeze", "-u", DATA)
        stage.host.run("fsfreeze", "-f", DATA)
        assert stage.frozen()
        stage.let("frozen")
        result = play.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (False, "other")
        assert f"{DATA} (ext4 on" in play.said
        assert "is still frozen, not by lease" in play.said
        assert play.finish() == 0
    assert stage.host.frozen() == [DATA]
    stage.no_guard_left()
    began = time.monotonic()
    with stage.break_glass(*PATHS) as thaw:
        seconds = stage.thawed(60) - began
        assert thaw.finish() == 0
        assert "held by something that is no lease of this host" in thaw.said
    stage.nothing_lost()
    fault = "fsfreeze -u, then -f, while frozen"
    by = "ours: the guard, on request; the other one: the playbook thaw"
    table.note("hands", fault, by, seconds, "the playbook's start")


def test_frozen_before(stage: Scene, table: Table):
    """All or nothing: what is held by somebody else keeps all of the set from being frozen."""
    stage.host.run("fsfreeze", "-f", DATA)
    stage.held_up()
    with stage.short(timeout=30) as play:
        message = play.wait("failed", "Freeze")["result"]["msg"]
        assert "nothing was changed" in message
        assert DATA in message
        assert OUTSIDE in message
        assert play.finish() == 2
    assert stage.host.frozen() == [DATA]
    stage.no_guard_left()
    began = time.monotonic()
    stage.host.run("fsfreeze", "-u", DATA)
    seconds = stage.thawed(5) - began
    stage.nothing_lost()
    table.note("hands", "fsfreeze -f before the freeze", HAND, seconds, "the request")


def test_frozen_while_frozen(stage: Scene, table: Table):
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        assert "Device or resource busy" in by_hand(stage.host, "fsfreeze", "-f", DATA)
        seconds = stage.thaw_well(play)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("hands", "fsfreeze -f while frozen", REQUEST, seconds, "the request")


# What is done, and what undoes it.
MOUNTS: dict[str, tuple[list[str], list[str]]] = {
    "a new mount over it": (["mount", "-t", "tmpfs", "tmpfs", DATA], ["umount", DATA]),
    "a bind mount of it": (["mount", "--bind", DATA, "/dev/pts"], ["umount", "/dev/pts"]),
    "a bind mount over it": (["mount", "--bind", "/run", DATA], ["umount", DATA]),
}


@pytest.mark.parametrize("what", MOUNTS)
def test_mounted_while_frozen(stage: Scene, table: Table, what: str):
    done, undone = MOUNTS[what]
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        held_up = stage.held_up()
        stage.host.run(*done)
        assert stage.frozen()
        seconds = stage.thaw_well(play)
    stage.no_guard_left()
    stage.host.run(*undone)
    if "over" in what:
        stage.ended_and_kept(held_up)
    else:
        stage.nothing_lost()
    table.note("hands", f"{what} while frozen", REQUEST, seconds, "the request")


def test_unmounted_while_frozen(stage: Scene, table: Table):
    """Refused; and lazily, the guard still holds what the path no longer leads to."""
    device = stage.device()
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        held_up = stage.held_up()
        assert "busy" in by_hand(stage.host, "umount", DATA)
        stage.host.run("umount", "--lazy", DATA)
        assert stage.frozen()
        seconds, result = stage.request_thaw(play)
        assert (result["held"], result["thawed_by"]) == (True, "request")
        states = {each["path"]: each["state"] for each in result["filesystems"]}
        assert states[DATA] == "thawed"
        assert play.finish() == 0
    stage.no_guard_left()
    stage.host.run("mount", device, DATA)
    stage.ended_and_kept(held_up)
    table.note("hands", "lazy unmount while frozen", REQUEST, seconds, "the request")


def test_unmounted_until_the_deadline(stage: Scene, table: Table):
    device = stage.device()
    with stage.short() as play:
        play.wait("start", "Be frozen")
        held_up = stage.held_up()
        stage.host.run("umount", "--lazy", DATA)
        assert stage.frozen()
        late = stage.thawed_by_deadline()
        stage.let("frozen")
        result = play.wait("ok", "Thaw")["result"]
        assert (result["held"], result["thawed_by"]) == (False, "deadline")
        assert play.finish() == 0
    stage.no_guard_left()
    stage.host.run("mount", device, DATA)
    stage.ended_and_kept(held_up)
    by = "the guard, at its deadline"
    table.note("hands", "lazy unmount, until the deadline", by, late, "deadline")


def test_made_read_only_while_frozen(stage: Scene, table: Table):
    """The kernel refuses it."""
    with stage.short(timeout=30) as play:
        play.wait("start", "Be frozen")
        stage.held_up()
        assert "busy" in by_hand(stage.host, "mount", "-o", "remount,ro", DATA)
        seconds = stage.thaw_well(play)
    stage.no_guard_left()
    stage.nothing_lost()
    table.note("hands", "mount -o remount,ro while frozen", REQUEST, seconds, "the request")
