# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""journald is stuck on the frozen root filesystem, and whoever logs anything waits with it."""

from __future__ import annotations

import pytest

from tests.faults.table import Table
from tests.kernel.processes import wait_for
from tests.vm import USER
from tests.vm.scene import PLAY_SECONDS, Scene

LINES = 1000
_FILL = f"seq {LINES} | setsid logger --tag filler >/dev/null 2>&1 &"


def fill(scene: Scene) -> None:
    """Log until the queue is full, and the logger itself waits."""
    scene.vm.run("sh", "-c", _FILL)
    # Not every machine has pgrep, and not every kernel tells in wchan.
    stack = ("sh", "-c", "cat $(dirname $(grep -lsx logger /proc/[0-9]*/comm))/stack")
    names = ("unix_wait_for_peer", "sock_alloc_send_pskb")
    wait_for(lambda: any(name in scene.vm.run(*stack) for name in names), PLAY_SECONDS)


def assert_all_logged(scene: Scene) -> None:
    """What was blocked meanwhile went on, and no line was lost."""
    argv = ("journalctl", "--quiet", "--boot", "--output=cat", "--identifier=filler")
    wait_for(lambda: len(scene.vm.run(*argv).split()) >= LINES, PLAY_SECONDS)
    assert scene.vm.run(*argv).split() == [str(number) for number in range(1, LINES + 1)]


@pytest.mark.parametrize("user", ["root", USER])
def test_journald_stuck(scene: Scene, table: Table, user: str):
    scene.user = user
    with scene.frozen() as play:
        fill(scene)
        seconds = scene.thaw_well(play)
    assert_all_logged(scene)
    scene.nothing_lost()
    table.note("machine", f"journald is stuck, play as {user}", "the play", seconds, "request")
