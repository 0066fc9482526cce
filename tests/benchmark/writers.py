# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that write to a filesystem, each a process of its own that times every operation.

writers.py KIND FILE LOG      until SIGTERM; then LOG is a list of [monotonic seconds, duration]
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = ("buffered", "fsync", "mmap")
SIZE = 256 << 20
"""Bytes of the file that each of them writes to, again and again from its beginning."""

_RATE = 40_000_000
_PIECE = 1 << 16
_PAGE = 4096
# Between two operations of the writers that are not held to a rate.
_PAUSE_SECONDS = 0.005
_MOST_SECONDS = 60.0


class Writers:
    """The three writers on one filesystem; made by :func:`writing`."""

    def __init__(self, folder: Path) -> None:
        self._logs = {kind: folder / f"{kind}.json" for kind in KINDS}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, filesystem: Path) -> None:
        """Start them, and return when all of them write."""
        for kind, log in self._logs.items():
            log.unlink(missing_ok=True)
            argv = [sys.executable, __file__, kind, str(filesystem / kind), str(log)]
            self._processes.append(
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            )
        for process in self._processes:
            assert process.stdout
            assert process.stdout.readline(), "a writer did not begin"

    def stop(self) -> None:
        """End them; nothing may be frozen any more."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(_MOST_SECONDS)
            assert process.stdout
            process.stdout.close()
        self._processes = []

    def longest(self, since: float, until: float) -> dict[str, float]:
        """Return the seconds of the longest operation of each between two monotonic times.

        0.0 where there was none: so short a time holds nobody up.
        """
        found = {}
        for kind, log in self._logs.items():
            noted = json.loads(log.read_text())
            took = [
                seconds for began, seconds in noted if began < until and began + seconds > since
            ]
            found[kind] = max(took, default=0.0)
        return found


@contextmanager
def writing(filesystem: Path, folder: Path) -> Iterator[Writers]:
    """Have them write to a filesystem; what is left of them is ended at the end of the block.

    :param folder: for what they note, where nothing is frozen.
    """
    writers = Writers(folder)
    try:
        writers.start(filesystem)
        yield writers
    finally:
        writers.stop()


def prepare(filesystem: Path) -> None:
    """Make the files that they write to."""
    for kind in KINDS:
        fill(filesystem / kind, SIZE)


def fill(file: Path, size: int) -> None:
    """Write so many bytes, from the beginning of a file and over what is there."""
    piece = b"q" * (1 << 20)
    with contextlib.closing(os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT), "wb", 0)) as stream:
        for _number in range(size // len(piece)):
            stream.write(piece)


def _operation(kind: str, file: str) -> Callable[[int], None]:
    """What this writer does the ``n``th time."""
    fd = os.open(file, os.O_RDWR)
    piece = b"w" * (_PIECE if kind == "buffered" else _PAGE)
    if kind == "mmap":
        mapped = mmap.mmap(fd, SIZE)
        pages = SIZE // _PAGE
        return lambda number: mapped.__setitem__(number % pages * _PAGE, number & 255)

    def write(number: int) -> None:
        os.pwrite(fd, piece, number * len(piece) % SIZE)
        if kind == "fsync":
            os.fdatasync(fd)

    return write


def _main(kind: str, file: str, log: str) -> None:
    ended = False

    def end(*_args: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    operation = _operation(kind, file)
    pause = _PIECE / _RATE if kind == "buffered" else _PAUSE_SECONDS
    noted: list[tuple[float, float]] = []
    number, due = 0, time.monotonic()
    print("writing", flush=True)
    while not ended:
        began = time.monotonic()
        operation(number)
        done = time.monotonic()
        noted.append((began, done - began))
        number += 1
        # What was missed while it was held up is not made up for.
        due = max(due + pause, done - pause)
        if due > done:
            time.sleep(due - done)
    Path(log).write_text(json.dumps(noted))


if __name__ == "__main__":
    _main(*sys.argv[1:])
