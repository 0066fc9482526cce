# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch a filesystem from outside, for what a freeze's answer claims to be held against.

    evidence.py states FOLDER LOG    every change of the kernel's state, polled
    evidence.py writes FOLDER LOG    every write to it: when it began, when it was done
    evidence.py pledge FOLDER LOG    numbered files; what fsync said is safe is noted
    evidence.py bulk FOLDER LOG      new data as fast as it goes; what the kernel refuses is noted

The logs are on another filesystem; times are those of CLOCK_MONOTONIC. All run until SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct

from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

_POLL_SECONDS = 0.0005
_NOTE_SECONDS = 0.05
_WRITE_SECONDS = 0.001
_PLEDGE_SECONDS = 0.02
_PLEDGE_BYTES = 16 << 10
_BULK_BYTES = 1 << 20
_BULK_FILES = 64
_STAMP = Struct("<dd")
# Pledges go round, so that they do not fill the filesystem.
_ROUND = 200
_FAR = 1_000_000


def states(folder: Path, log: Path) -> None:
    """Append ``BEFORE AFTER STATE`` to the log for a look at every change, and now and then.

    The state was read at some time between the two.
    """
    reader, last, noted = Reader(), "", 0.0
    fd = os.open(folder, os.O_RDONLY)
    with log.open("a", buffering=1) as stream:
        for _each in _until_ended(_POLL_SECONDS):
            before = time.monotonic()
            state = reader.state(fd)
            after = time.monotonic()
            if state != last or after > noted + _NOTE_SECONDS:
                stream.write(f"{before} {after} {state}\n")
                last, noted = state, after


def writes(folder: Path, log: Path) -> None:
    """Write one block again and again, and append when each write began and ended."""
    fd = os.open(folder / "written", os.O_WRONLY | os.O_CREAT, 0o600)
    with log.open("ab", buffering=0) as stream:
        for number in _until_ended(_WRITE_SECONDS):
            began = time.monotonic()
            os.pwrite(fd, number.to_bytes(8, "little"), 0)
            stream.write(_STAMP.pack(began, time.monotonic()))


def pledge(folder: Path, log: Path) -> None:
    """Write a file and sync it; note its number only if the kernel said that it is safe.

    The numbers begin far above those of an earlier process, which may have written more than it
    noted: what that one wrote is never taken for ours.
    """
    before = max(_given(log), default=0) + _FAR
    with log.open("a", buffering=1) as stream:
        for number in (before + each for each in _until_ended(_PLEDGE_SECONDS)):
            with contextlib.suppress(OSError):
                _keep(folder / f"pledge-{number % _ROUND}", number)
                stream.write(f"{number}\n")


def _keep(path: Path, number: int) -> None:
    fresh = path.with_name("fresh")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, _pledged(number))
        os.fsync(fd)
        os.rename(fresh, path)
        os.fsync(fd)
    finally:
        os.close(fd)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _pledged(number: int) -> bytes:
    return (b"%016d" % number) * (_PLEDGE_BYTES // 16)


def bulk(folder: Path, log: Path) -> None:
    """Fill file after file with what no storage can make smaller, and sync each."""
    with log.open("a", buffering=1) as stream:
        for number in _until_ended(_PLEDGE_SECONDS):
            try:
                fd = os.open(
                    folder / f"bulk-{number % _BULK_FILES}", os.O_WRONLY | os.O_CREAT, 0o600
                )
                try:
                    os.write(fd, os.urandom(_BULK_BYTES))
                    os.fsync(fd)
                finally:
                    os.close(fd)
            except OSError as error:
                stream.write(f"{error.strerror}\n")


def _given(log: Path) -> list[int]:
    """The pledges that were given so far."""
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def broken_pledges(folder: Path, log: Path) -> tuple[int, list[str]]:
    """How many pledges were given, and which of them were not kept."""
    last: dict[int, int] = {}
    given = _given(log)
    for number in given:
        last[number % _ROUND] = number
    broken = []
    for slot, number in last.items():
        path = folder / f"pledge-{slot}"
        data = path.read_bytes() if path.exists() else b""
        # A later one, of which nobody knows whether it is safe, may have taken its place.
        later = int(data[:16] or 0) if data[:16].isdigit() else 0
        if later < number or later % _ROUND != slot or data != _pledged(later):
            broken.append(f"{path.name}: pledged {number}, found {data[:16]!r}, {len(data)} bytes")
    return len(given), broken


class Timeline:
    """What was seen of the state, and of the writes, to hold an answer against."""

    def __init__(self, state_log: Path, write_log: Path) -> None:
        self.states: list[tuple[float, float, str]] = []
        for line in state_log.read_text().splitlines():
            before, after, state = line.split()
            self.states.append((float(before), float(after), state))
        data = write_log.read_bytes()
        self.writes = list(_STAMP.iter_unpack(data[: len(data) // _STAMP.size * _STAMP.size]))

    def against(self, since: float, until: float) -> list[str]:
        """What speaks against a freeze that lasted, unbroken, all that time."""
        lines = [
            f"seen {state} {before - since:.4f} s into it"
            for before, after, state in self.states
            if since < before and after < until and state != "frozen"
        ]
        lines += [
            f"a write began {began - since:.4f} s into it and was done at {ended - since:.4f}"
            for began, ended in self.writes
            if since < began and ended < until
        ]
        return lines


def _until_ended(pause: float) -> Iterator[int]:
    ended: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_ignored: ended.append(True))
    number = 0
    while not ended:
        number += 1
        yield number
        time.sleep(pause)


_MODES: dict[str, Callable[[Path, Path], None]] = {
    "states": states,
    "writes": writes,
    "pledge": pledge,
    "bulk": bulk,
}

if __name__ == "__main__":
    _MODES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
