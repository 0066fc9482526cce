# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a frozen filesystem never waits, not even the first time after it was mounted.

The idea of xfstests' generic/491. Nothing is cached after a mount; the first look at a folder, the
first page, the first access time of a file are all read, or noted, while it is frozen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import FSTYPES, Lab, run
from tests.torture.scene import PATIENCE, Scene, scene

READERS = Path(__file__).with_name("readers.py")
# Options of the mount: when an access time has to be written.
ATIMES: dict[str, tuple[str, ...]] = {
    "every access": ("strictatime",),
    "as usual": (),
    "never": ("noatime",),
}


@pytest.mark.parametrize("fstype", FSTYPES)
def test_first_reads_after_a_mount(lab: Lab, fstype: str) -> None:
    with scene(lab, "first read", fstype) as play:
        folder = play.filesystem.mountpoint
        second = lab.folder / "second"
        second.mkdir(exist_ok=True)
        run(sys.executable, READERS, "make", folder)
        wanted = look(folder)["sum"]
        slowest = 0.0
        for number in play.rounds(at_least=2):
            play.unmount()
            play.filesystem.options = play.random.choice(list(ATIMES.values()))
            play.filesystem.mount()
            answer = frozen_look(play, folder if number % 2 else second)
            assert answer.pop("sum") == wanted
            slowest = max(slowest, *answer.values())
            play.counts["reads"] += len(answer)
        second.rmdir()
        play.assert_quiet()
        play.check()
        play.counts["ms for the slowest read"] = int(slowest * 1000)
        play.report(freezes=2, thaws=2, reads=20, checks=1)


def frozen_look(play: Scene, folder: Path) -> dict[str, Any]:
    """Freeze, and read through ``folder``; where that is another path, mount it there first."""
    elsewhere = folder != play.filesystem.mountpoint
    play.freeze(timeout=4 * int(PATIENCE))
    try:
        if elsewhere:
            run("mount", play.filesystem.device, folder, timeout=PATIENCE)
            play.counts["mounts while frozen"] += 1
        try:
            answer = look(folder)
            assert play.state() == "frozen"
        finally:
            if elsewhere:
                run("umount", folder, timeout=PATIENCE)
    finally:
        thawed = play.thaw()
    assert thawed["held"] is True
    return answer


def look(folder: Path) -> dict[str, Any]:
    """Read everything; LabError when something waits."""
    done = run(sys.executable, READERS, "look", folder, timeout=PATIENCE)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
