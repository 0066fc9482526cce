# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of snapshots of a database that are not of one instant: a measurement, as root.

Takes snapshots of its two filesystems one after the other, without a freeze, under the load of the
tests, starts a server on each pair, and counts what has come of them. With --frozen the same, but
frozen meanwhile.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.lab import LabError, open_lab
from tests.kernel.modules import call

from .ledger import Snapshot
from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .scene import Scene, loaded, moment, scene
from .server import Broken, Server

_KINDS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}


@dataclass
class Pair:
    """Snapshots of both filesystems, and when the first was begun and the last was done."""

    data: Path
    log: Path
    began: float
    ended: float


def _one_after_the_other(on: Scene, first: str, apart: float) -> Pair:
    began = time.time()
    order = (on.data, on.log) if first == "data" else (on.log, on.data)
    one = order[0].snapshot()
    time.sleep(apart)
    other = order[1].snapshot()
    data, log = (one, other) if first == "data" else (other, one)
    return Pair(data, log, began, time.time())


def _frozen(on: Scene) -> Pair:
    images = [each.image.with_name(f"{each.name}.frozen.img") for each in (on.data, on.log)]
    commands = [
        ["cp", "--reflink=always", each.image, image]
        for each, image in zip((on.data, on.log), images, strict=True)
    ]
    answer = call("fsfreeze_run", path=[on.data, on.log], commands=commands, timeout=30)
    began = moment(answer["lease"]["frozen_at"])
    return Pair(images[0], images[1], began, began + answer["frozen_seconds"])


def measure(on: Scene, snapshots: int, take: Callable[[Scene], Pair]) -> Counter[str]:
    """Count what has come of that many snapshots."""
    counts: Counter[str] = Counter()
    taken: list[Snapshot] = []
    with loaded(on) as load:
        for number in range(snapshots):
            time.sleep(1)
            pair, started = take(on), False
            try:
                with on.started(pair.data, pair.log) as copy:
                    started = True
                    taken.append(Snapshot(pair.began, pair.ended, copy.found()))
                    copy.check()
                counts["whole"] += 1
            except (Broken, LabError) as error:
                print(f"{number}: {' '.join(str(error).split())[-400:]}", flush=True)
                counts["damaged" if started else "not started"] += 1
            finally:
                pair.data.unlink()
                pair.log.unlink()
        load.end()
        ledger = load.ledger()
    counts["wrong transactions"] = sum(bool(ledger.faults(each)) for each in taken)
    return counts


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.applications", description=__doc__)
    parser.add_argument("kind", choices=_KINDS)
    parser.add_argument("--snapshots", type=int, default=20)
    parser.add_argument(
        "--first", choices=("data", "log"), default="log", help="the one cloned first"
    )
    parser.add_argument("--apart", type=float, default=0.5, help="seconds between the two clones")
    parser.add_argument("--frozen", action="store_true", help="freeze both meanwhile")
    given = parser.parse_args()
    take: Callable[[Scene], Pair] = _frozen
    if not given.frozen:
        take = functools.partial(_one_after_the_other, first=given.first, apart=given.apart)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_lab() as lab,
        scene(lab, _KINDS[given.kind], Path(folder)) as on,
    ):
        print(dict(measure(on, given.snapshots, take)))


if __name__ == "__main__":
    main()
