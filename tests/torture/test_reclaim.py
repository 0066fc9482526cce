# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory taken back while frozen: of inodes that had still to be written, emptied or given up.

The idea of xfstests' xfs/738. Giving up an inode can be a write. Whoever reads has to get on all
the same, with next to no memory to read into, and the thaw has to get through.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kernel.lab import FSTYPES, GIB, Lab, run
from tests.kernel.processes import wait_for
from tests.torture.readers import BULK_BYTES, BULK_FILES
from tests.torture.scene import PATIENCE, Scene, scene

MEMORY_MIB = 40
INODES = 300
HERE = Path(__file__).parent


@pytest.mark.parametrize("fstype", FSTYPES)
def test_memory_is_taken_back_while_frozen(lab: Lab, fstype: str) -> None:
    with scene(lab, "reclaim", fstype, size=GIB) as play:
        tree = play.filesystem.mountpoint / "tree"
        run(sys.executable, HERE / "readers.py", "make", tree)
        dropped = play.log("dropped")
        play.start("reclaim.py", "drop", dropped)
        for number in play.rounds(at_least=2):
            folder = play.filesystem.mountpoint / f"round-{number % 3}"
            dirty(folder)
            holder = play.start("reclaim.py", "hold", folder)
            wait_for((folder / "holding").exists, PATIENCE)
            play.freeze(timeout=4 * int(PATIENCE))
            # Their last close, and what it asks for, comes while it is frozen.
            holder.terminate()
            had = dropped.stat().st_size if dropped.exists() else 0
            read_with_little_memory(play, tree)
            time.sleep(0.3)
            play.counts["drops while frozen"] += dropped.stat().st_size - had
            assert play.state() == "frozen"
            play.counts["closed while frozen"] += holder.poll() is not None
            began = time.monotonic()
            answer = play.thaw()
            assert answer["held"] is True
            assert holder.wait(PATIENCE) == 0
            had = dropped.stat().st_size
            wait_for(lambda had=had: dropped.stat().st_size > had, PATIENCE)  # type: ignore[misc]
            slowest = int((time.monotonic() - began) * 1000)
            play.counts["ms for the slowest thaw"] = max(
                slowest, play.counts["ms for the slowest thaw"]
            )
            (folder / "holding").unlink()
        play.end_children()
        play.assert_quiet()
        play.check()
        play.report(freezes=2, thaws=2, reads=2, checks=1)


def dirty(folder: Path) -> None:
    """Many inodes: new, longer than before, shorter, gone."""
    folder.mkdir(exist_ok=True)
    for number in range(INODES):
        path = folder / f"file-{number}"
        if number % 3 == 0:
            path.unlink(missing_ok=True)
        elif number % 3 == 1 and path.exists():
            with path.open("r+b") as file:
                file.truncate(100)
        else:
            with path.open("ab") as file:
                file.write(bytes(6000))


def read_with_little_memory(play: Scene, tree: Path) -> None:
    """Read more than fits: pages of this filesystem have to go for its own to come."""
    for path in tree.glob("bulk-*"):
        # What is in memory already is counted as nobody's.
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    argv = [sys.executable, str(HERE / "reclaim.py"), "within", str(MEMORY_MIB), sys.executable]
    argv += [str(HERE / "readers.py"), "bulk", str(tree)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=PATIENCE)
    assert int(done.stdout) == BULK_FILES * BULK_BYTES
    play.counts["reads"] += 1
