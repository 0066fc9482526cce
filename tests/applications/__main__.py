# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of snapshots of a database that are not of one instant: a measurement, as root.

Takes snapshots of the two filesystems one after the other, without a freeze, under the load of the
tests, starts a server on each pair, and counts what has come of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.kernel.lab import open_lab

from .ledger import Snapshot
from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .scene import Scene, loaded, scene
from .server import Broken, Server

_KINDS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}


def _take(on: Scene, first: str, apart: float) -> tuple[Path, Path, float, float]:
    """Clone both images, ``apart`` seconds after each other; return them, and begin and end."""
    began = time.time()
    order = (on.data, on.log) if first == "data" else (on.log, on.data)
    one = order[0].snapshot()
    time.sleep(apart)
    other = order[1].snapshot()
    data, log = (one, other) if first == "data" else (other, one)
    return data, log, began, time.time()


def measure(on: Scene, snapshots: int, first: str, apart: float) -> Counter[str]:
    """Count what has come of that many snapshots."""
    counts: Counter[str] = Counter()
    taken: list[Snapshot] = []
    with loaded(on) as load:
        for number in range(snapshots):
            time.sleep(1)
            data, log, began, ended = _take(on, first, apart)
            try:
                with on.started(data, log) as copy:
                    taken.append(Snapshot(began, ended, copy.found()))
                    copy.check()
                counts["started and whole"] += 1
            except Broken as error:
                print(f"{number}: {' '.join(str(error).split())[-400:]}", flush=True)
                counts["not started" if "the server has ended" in str(error) else "damaged"] += 1
            finally:
                data.unlink()
                log.unlink()
        load.end()
        ledger = load.ledger()
    counts["lost what was acknowledged"] = sum(bool(ledger.faults(each)) for each in taken)
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
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_lab() as lab,
        scene(lab, _KINDS[given.kind], Path(folder)) as on,
    ):
        print(dict(measure(on, given.snapshots, given.first, given.apart)))


if __name__ == "__main__":
    main()
