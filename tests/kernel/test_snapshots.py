# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job: snapshots of a busy filesystem, each of them clean, complete and proven.

That most snapshots without the freeze are neither is shown, with the same load and the
same checker, in ``test_clean.py``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._clean import judge

from tests.kernel.lab import FSTYPES, GIB, Filesystem, Lab, Load, load
from tests.kernel.modules import call, freeze, state, thaw

SNAPSHOTS = int(os.environ.get("QUIESCE_SNAPSHOTS", "50"))
# Long enough for every writer to have finished much since the last snapshot.
PAUSE = 0.3


def check(lab: Lab, image: Path, fstype: str, writers: Load, sample: str) -> None:
    """The snapshot is clean, and has all that the writers had finished before the freeze."""
    verdict = judge(str(image))
    assert verdict.clean, verdict.reasons
    with lab.mounted(image, fstype) as folder:
        lost = writers.lost(folder, sample)
    assert not any(lost.values()), lost
    image.unlink()


@pytest.mark.parametrize("fstype", FSTYPES)
def test_every_snapshot_is_clean_and_complete(lab: Lab, fstype: str) -> None:
    with lab.filesystem(fstype, size=2 * GIB) as busy, load(busy) as writers:
        time.sleep(2)
        for number in range(SNAPSHOTS):
            time.sleep(PAUSE)
            image = busy.image.with_name(f"{busy.name}-{number}.img")
            sample = writers.sample()
            copy = ["cp", "--reflink=always", busy.image, image]
            answer = call("fsfreeze_run", path=[busy], commands=[copy], timeout=30)
            assert answer["held"] is True
            check(lab, image, fstype, writers, sample)
        assert state(busy) == "thawed"


def test_a_set_is_of_one_instant(lab: Lab) -> None:
    """Every filesystem of the set is frozen before the first is copied, in three tasks."""
    sizes = {"ext4": 1 * GIB, "xfs": 1 * GIB}
    with (
        lab.filesystem("ext4", size=sizes["ext4"]) as one,
        lab.filesystem("xfs", size=sizes["xfs"]) as two,
        load(one, fio_rate=4) as first,
        load(two, fio_rate=4) as second,
    ):
        pairs: list[tuple[Filesystem, Load]] = [(one, first), (two, second)]
        time.sleep(1)
        for _each in range(3):
            samples = [writers.sample() for _busy, writers in pairs]
            freeze(one, two, lease="set", timeout=30)
            images = [busy.snapshot() for busy, _writers in pairs]
            answer = thaw(one, two, lease="set")
            assert answer["held"] is True
            for (busy, writers), image, sample in zip(pairs, images, samples, strict=True):
                check(lab, image, busy.fstype, writers, sample)
