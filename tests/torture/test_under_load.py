# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezes and thaws, one after the other, while everything that can be written is written.

The idea of xfstests' generic/068, with more to hold it against: nothing reaches the device while it
is frozen, a snapshot taken then is clean and complete, and the tree is as the writers left it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._clean import judge

from tests.kernel.lab import FSTYPES, GIB, Lab, Load, load
from tests.kernel.modules import call
from tests.torture.churn import differences
from tests.torture.scene import PATIENCE, SEED, Scene, scene

WORKERS = 4
EVERY = 3


@pytest.mark.parametrize("fstype", FSTYPES)
def test_freezes_under_load(lab: Lab, fstype: str) -> None:
    with scene(lab, "under load", fstype, size=2 * GIB) as play:
        tree = play.filesystem.mountpoint / "tree"
        tree.mkdir()
        report = play.log("churn")
        Path(f"{report}.count").write_bytes(bytes(8 * WORKERS))
        workers = ["--directory", tree, "--report", report, "--workers", WORKERS, "--seed", SEED]
        play.start("churn.py", *workers)
        with load(play.filesystem, fio_rate=4, seconds=play.seconds + PATIENCE) as writers:
            for number in play.rounds(at_least=3):
                if number % EVERY:
                    freeze_and_thaw(play, report)
                else:
                    snapshot(play, writers)
            last = writers.sample()
        play.counts["operations"] = sum(operations(report))
        play.end_children()
        play.assert_quiet()
        play.check()
        lost = differences(tree, report, WORKERS)
        assert not lost, lost
        missing = writers.lost(play.filesystem.mountpoint, last)
        assert not any(missing.values()), missing
        play.report(freezes=2, thaws=2, snapshots=1, operations=100, checks=1)


def freeze_and_thaw(play: Scene, report: Path) -> None:
    """One freeze, in which nobody gets on and nothing reaches the device."""
    answer = play.freeze()
    assert answer["changed"] is True
    assert play.state() == "frozen"
    done, written = operations(report), sectors(play.filesystem.device)
    time.sleep(play.random.uniform(0, 0.3))
    # Each may have been between the end of an operation and counting it.
    gone_on = [after - before for before, after in zip(done, operations(report), strict=True)]
    assert max(gone_on) <= 1, gone_on
    assert sectors(play.filesystem.device) == written
    answer = play.thaw()
    assert answer["changed"] is True
    assert answer["held"] is True
    assert answer["thawed_by"] == "request"


def snapshot(play: Scene, writers: Load) -> None:
    """A snapshot in one call: clean, and nothing lost that was written before it."""
    image = play.filesystem.image.with_name(f"{play.filesystem.name}-snapshot.img")
    sample = writers.sample()
    clone = ["cp", "--reflink=always", play.filesystem.image, image]
    options: dict[str, Any] = {"lease": play.lease("snapshot"), "timeout": 60}
    answer = call(
        "fsfreeze_run", path=[play.filesystem], commands=[clone], patience=PATIENCE, **options
    )
    assert answer["held"] is True
    verdict = judge(str(image))
    assert verdict.clean, verdict.reasons
    with play.lab.mounted(image, play.filesystem.fstype) as folder:
        lost = writers.lost(folder, sample)
    assert not any(lost.values()), lost
    image.unlink()
    play.counts["snapshots"] += 1


def operations(report: Path) -> list[int]:
    """How many operations each worker has finished."""
    cells = memoryview(Path(f"{report}.count").read_bytes()).cast("Q")
    return cells.tolist()


def sectors(device: str) -> int:
    """How many sectors were ever written to a device."""
    name = os.path.basename(device)
    return int(Path(f"/sys/block/{name}/stat").read_text().split()[6])
