# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guard and second process are killed at once, and the freezer, which is in a call, is not."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._lease import read
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel.lab import MIB, Filesystem, Lab, throttled
from tests.kernel.modules import Failed, arguments_of, environment, parse, thaw
from tests.kernel.processes import children, kill_together, of_lease, second_of, wait_for

LEASE = "alone"
READER = Reader()


def seen(filesystem: Filesystem) -> str:
    """Its state as the kernel has it."""
    fd = os.open(filesystem.mountpoint, os.O_RDONLY)
    try:
        return READER.state(fd)
    finally:
        os.close(fd)


@contextmanager
def killed_while_freezing(slow: Filesystem, paths: Sequence[Filesystem]) -> Iterator[None]:
    """Freeze these, and kill both while ``slow`` is being frozen, which it is in the block."""
    with throttled(slow.device, 4 * MIB):
        (slow.mountpoint / "dirty").write_bytes(os.urandom(12 * MIB))
        options = {"path": list(paths), "state": "frozen", "lease": LEASE, "flush": False}
        call = subprocess.Popen(
            arguments_of("fsfreeze", False, options),
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: seen(slow) == "freezing", 20)
            (guard,) = [pid for pid in of_lease(LEASE) if children(pid)]
            kill_together([guard, second_of(LEASE, guard)])
            with pytest.raises(Failed, match="the guard was killed while it froze"):
                parse(call.communicate(timeout=60)[0])
            yield
        finally:
            call.kill()
            call.wait()


def nobody_is_left(paths: Sequence[Filesystem]) -> None:
    """All is thawed, stays so, and the record says why."""
    wait_for(lambda: not of_lease(LEASE), 60)
    for _look in range(2):
        assert [seen(each) for each in paths] == ["thawed"] * len(paths)
        time.sleep(1)
    record = read(LEASE)
    assert record
    assert record["ended"]["thawed_by"] == "guard_lost"
    answer = thaw(*paths, lease=LEASE)
    assert (answer["changed"], answer["held"]) == (False, False)


def test_side_by_side(lab: Lab) -> None:
    """What is frozen already is thawed at once, and the other one when the kernel lets go."""
    with lab.filesystem("xfs", size=512 * MIB) as slow, lab.filesystem("ext4") as other:
        with killed_while_freezing(slow, [slow, other]):
            wait_for(lambda: seen(other) == "thawed", 5)
            assert seen(slow) == "freezing"
        nobody_is_left([slow, other])


def test_one_on_the_other(lab: Lab) -> None:
    """The one that the first is stored on is not frozen any more."""
    with (
        lab.filesystem("ext4", size=1024 * MIB) as outer,
        lab.filesystem("xfs", size=512 * MIB, on=outer) as inner,
    ):
        with killed_while_freezing(inner, [outer, inner]):
            assert seen(outer) == "thawed"
        nobody_is_left([outer, inner])
