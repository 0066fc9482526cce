# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezes against mounts that come and go on the same path, lazily or not.

The idea of xfstests' generic/085: nothing is left frozen, nothing hangs, and what is frozen can
always be reached. Below the path is a second filesystem of the lab, so that a freeze that comes
too late takes that one, and never one of the machine's own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel import modules
from tests.kernel.lab import FSTYPES, MIB, Filesystem, Lab, run
from tests.torture.scene import PATIENCE, Scene, outcome, scene

# What a freeze may say of a path that is being unmounted.
REFUSALS = ("was unmounted while it was looked at", "cannot be opened")


class Door:
    """A path that leads to the filesystem or, while that is not mounted there, to what is below."""

    def __init__(self, play: Scene, below: Filesystem) -> None:
        self.play, self.below = play, below
        self.path, self.other = below.mountpoint / "door", below.mountpoint / "other"
        self.device = play.filesystem.device
        for folder in (self.path, self.other):
            folder.mkdir()
        self.turn = threading.Lock()
        self.ended = threading.Event()

    def flip(self) -> None:
        """Mount and unmount until the end; none of it may hang."""
        ways = (("umount", self.path), ("umount", "--lazy", self.path), ("mount",), ("mount",))
        while not self.ended.is_set():
            way = self.play.random.choice(ways)
            argv = ("mount", self.device, self.path) if way == ("mount",) else way
            with self.turn:
                done = run(*argv, timeout=PATIENCE, check=False)
            self.play.counts["mounts" if argv[0] == "mount" else "unmounts"] += not done.returncode
            self.ended.wait(self.play.random.uniform(0, 0.05))

    @contextmanager
    def flipping(self) -> Iterator[None]:
        """Do so for the length of the block, and leave nothing mounted."""
        thread = threading.Thread(target=self.flip)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()
            self.close()

    def close(self) -> None:
        """Unmount it wherever it is."""
        for path in (self.path, self.other):
            while run("umount", path, timeout=PATIENCE, check=False).returncode == 0:
                pass

    def state(self) -> str:
        """The state of the filesystem, through a mount made for the purpose."""
        run("mount", self.device, self.other, timeout=PATIENCE)
        try:
            return self.play.state(self.other)
        finally:
            run("umount", "--lazy", self.other, timeout=PATIENCE)


@pytest.mark.parametrize("fstype", FSTYPES)
def test_freezes_while_it_is_unmounted(lab: Lab, fstype: str) -> None:
    with (
        lab.filesystem("ext4", size=64 * MIB) as below,
        scene(lab, "unmount", fstype) as play,
    ):
        play.filesystem.unmount()
        door = Door(play, below)
        try:
            with door.flipping():
                for number in play.rounds(at_least=2):
                    freeze_and_thaw(door)
                    if number % 3 == 1:
                        thaw_without_a_path(door)
        finally:
            modules.thaw(door.device, below)
            play.filesystem.mount()
        play.end_children()
        play.assert_quiet()
        assert play.state(below.mountpoint) == "thawed"
        play.check()
        play.report(freezes=2, thaws=2, mounts=5, unmounts=5, found_again=1, checks=1)


def freeze_and_thaw(door: Door) -> None:
    """Whatever the path led to when it was opened is frozen, and thawed by the lease."""
    play = door.play
    answer = outcome(play.freeze, on=door.path, timeout=60)
    if answer.get("failed"):
        assert any(words in answer["msg"] for words in REFUSALS), answer["msg"]
        play.counts["refused"] += 1
        return
    assert answer["changed"] is True
    (frozen,) = answer["filesystems"]
    assert frozen["source"] in (door.device, door.below.device)
    inner = frozen["source"] == door.device
    assert (door.state() if inner else play.state(door.below.mountpoint)) == "frozen"
    play.counts["frozen below the path" if not inner else "frozen"] += 1
    answer = play.thaw(on=door.path)
    assert answer["changed"] is True
    assert answer["held"] is True
    assert (door.state() if inner else play.state(door.below.mountpoint)) == "thawed"


def thaw_without_a_path(door: Door) -> None:
    """Frozen by a stranger and unmounted, it is still reached: by its device, or a new mount."""
    play = door.play
    with door.turn:
        door.close()
        run("mount", door.device, door.path, timeout=PATIENCE)
        run("fsfreeze", "--freeze", door.path, timeout=PATIENCE)
        run("umount", door.path, timeout=PATIENCE)
        if play.random.random() < 0.5:
            way = Path(door.device)
        else:
            run("mount", door.device, door.path, timeout=PATIENCE)
            way = door.path
        answer = modules.thaw(way, patience=PATIENCE)
        assert answer["changed"] is True
        assert door.state() == "thawed"
        play.counts["found_again"] += 1
