# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a filesystem busy, and tell later what a snapshot of it has lost.

Three writers number what they write, and note each number in a progress file on another filesystem
as soon as the write is finished, which means handed to the kernel, not synced:

* ``append`` adds records to a file with write();
* ``mmap`` fills page after page of a file through a shared mapping, round and round;
* ``rename`` makes and removes files and folders, and renames a new file over an old one.

fio adds the bulk: buffered random writes, held to a rate.

A sample of the progress taken *before* a freeze begins names records that were finished before it,
so a snapshot taken during the freeze has to hold all of them. What a writer was in the middle of is
in no sample, and may be there or not::

    load.py run --directory /srv/data --progress /run/load &
    load.py sample --progress /run/load --ready 10     prints {"append": 812, "mmap": 327, ...}
    load.py verify --snapshot-mount /mnt --progress '{"append": 812, ...}'
    load.py stop --progress /run/load
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct

WRITERS = ("append", "mmap", "rename")
MARKS = {"append": b"qs-apnd\n", "mmap": b"qs-mmap\n", "rename": b"qs-renm\n"}
PER_SECOND = {"append": 500, "mmap": 200, "rename": 100}

RECORD_BYTES = 256
RECORDS_PER_SYNC = 100
PAGE_BYTES = 4096
RING_PAGES = 1024
FOLDER = "quiesce-load"

_HEAD = Struct("<8sQ")
_CHECK = Struct("<I")
_ALL_ONES = (1 << 64) - 1
_PR_SET_PDEATHSIG = 1


class LoadError(Exception):
    """The load cannot do what it was asked; the text says why."""


class Progress:
    """The highest number that each writer has finished, in a small file shared between processes.

    Every number is there twice, once inverted: so a reader knows one that it caught half-written.
    """

    def __init__(self, path: Path, create: bool = False) -> None:
        flags = os.O_RDWR | (os.O_CREAT | os.O_TRUNC if create else 0)
        size = 8 * (1 + 2 * len(WRITERS))
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise LoadError(f"{path}: {error.strerror}") from error
        try:
            if create:
                os.ftruncate(fd, size)
            elif os.fstat(fd).st_size != size:
                raise LoadError(f"{path}: not a progress file of this program")
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._cells = memoryview(self._map).cast("Q")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._cells.release()
        self._map.close()

    @property
    def pid(self) -> int:
        """The process that runs the load."""
        return self._cells[0]

    @pid.setter
    def pid(self, value: int) -> None:
        self._cells[0] = value

    def finish(self, writer: str, number: int) -> None:
        """Note that ``writer`` has finished everything up to ``number``."""
        cell = 1 + 2 * WRITERS.index(writer)
        self._cells[cell] = number
        self._cells[cell + 1] = number ^ _ALL_ONES

    def sample(self) -> dict[str, int]:
        """Return the number that each writer has finished, 0 for none."""
        return {writer: self._read(1 + 2 * index) for index, writer in enumerate(WRITERS)}

    def _read(self, cell: int) -> int:
        number = inverted = 0
        for _attempt in range(1000):
            number, inverted = self._cells[cell], self._cells[cell + 1] ^ _ALL_ONES
            if number == inverted:
                return number
        if inverted == _ALL_ONES:
            return 0  # nothing was ever noted
        return min(number, inverted)  # the writer was ended between the two; both were finished


def record(writer: str, number: int, size: int) -> bytes:
    """Return the ``size`` bytes that ``writer`` writes as its record ``number``."""
    head = _HEAD.pack(MARKS[writer], number)
    room = size - len(head) - _CHECK.size
    body = head + (b"%016x" % number * (room // 16 + 1))[:room]
    return body + _CHECK.pack(zlib.crc32(body))


def number_in(data: bytes, writer: str) -> int:
    """Return the number of the record that ``data`` is, 0 if it is none or not whole."""
    if len(data) <= _HEAD.size + _CHECK.size:
        return 0
    mark, number = _HEAD.unpack_from(data)
    end = len(data) - _CHECK.size
    intact = _CHECK.pack(zlib.crc32(data[:end])) == data[end:]
    return int(number) if intact and mark == MARKS[writer] else 0


def append_forever(folder: Path, finish: Callable[[int], None]) -> None:
    """Append records to a file, and ask for some of them to be synced, as a database does."""
    fd = os.open(str(folder / "append"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in _paced(PER_SECOND["append"]):
        data = record("append", number, RECORD_BYTES)
        if os.write(fd, data) != len(data):
            raise LoadError(f"{folder}: a record was cut short")
        finish(number)
        if number % RECORDS_PER_SYNC == 0:
            os.fsync(fd)


def map_forever(folder: Path, finish: Callable[[int], None]) -> None:
    """Write page after page through a shared mapping."""
    fd = os.open(str(folder / "mmap"), os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, RING_PAGES * PAGE_BYTES)
    pages = mmap.mmap(fd, RING_PAGES * PAGE_BYTES)
    for number in _paced(PER_SECOND["mmap"]):
        start = number % RING_PAGES * PAGE_BYTES
        pages[start : start + PAGE_BYTES] = record("mmap", number, PAGE_BYTES)
        finish(number)


def rename_forever(folder: Path, finish: Callable[[int], None]) -> None:
    """Make, rename and remove files and folders."""
    current, fresh = folder / "current", folder / "fresh"
    for number in _paced(PER_SECOND["rename"]):
        room = folder / f"room-{number % 16}"
        if room.exists():
            shutil.rmtree(str(room))
        room.mkdir()
        for name in ("a", "b", "c"):
            (room / name).write_bytes(b"%d" % number)
        (room / "a").rename(room / "d")
        (room / "b").unlink()
        fresh.write_bytes(record("rename", number, RECORD_BYTES))
        fresh.rename(current)
        finish(number)


_WORK: dict[str, Callable[[Path, Callable[[int], None]], None]] = {
    "append": append_forever,
    "mmap": map_forever,
    "rename": rename_forever,
}


def _paced(per_second: int) -> Iterator[int]:
    """Count from 1, ``per_second`` numbers a second; a pause is not made up for."""
    number = 0
    while True:
        number += 1
        yield number
        time.sleep(1 / per_second)


def verify(mount: Path, finished: dict[str, int]) -> dict[str, object]:
    """Say what the snapshot mounted at ``mount`` lacks of what was finished.

    :param finished: a sample of the progress.
    :returns: for each writer ``finished`` and ``lost``, both counts of records, and their sum as
        ``lost``. Pages that ``mmap`` has written over since count once.
    """
    folder = mount / FOLDER
    lost = {
        "append": _lost_appends(folder / "append", finished["append"]),
        "mmap": _lost_pages(folder / "mmap", finished["mmap"]),
        "rename": max(0, finished["rename"] - number_in(_content(folder / "current"), "rename")),
    }
    each = {writer: {"finished": finished[writer], "lost": lost[writer]} for writer in WRITERS}
    return {**each, "lost": sum(lost.values())}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _lost_appends(path: Path, finished: int) -> int:
    data = _content(path)
    lost = 0
    for number in range(1, finished + 1):
        chunk = data[(number - 1) * RECORD_BYTES : number * RECORD_BYTES]
        lost += number_in(chunk, "append") != number
    return lost


def _lost_pages(path: Path, finished: int) -> int:
    """Count the pages that should hold a finished record and hold an older one, or none.

    One page may be torn without a loss: the one that the writer was filling when it was stopped,
    which is the page after the newest whole record, provided that that record is not finished.
    """
    data = _content(path)
    found = [
        number_in(data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES], "mmap")
        for page in range(RING_PAGES)
    ]
    in_the_making = max(found) + 1
    lost = 0
    for number in range(max(1, finished - RING_PAGES + 1), finished + 1):
        page = number % RING_PAGES
        torn = in_the_making > finished and page == in_the_making % RING_PAGES
        right = found[page] >= number and found[page] % RING_PAGES == page
        lost += not right and not torn
    return lost


def run(directory: Path, progress: Path, seconds: float, fio_rate: int, grace: float) -> None:
    """Write until SIGTERM or SIGINT, or for ``seconds``.

    :param fio_rate: MiB a second that fio writes, 0 for no fio.
    :param grace: seconds that the writers get to end. One that is blocked on a frozen filesystem
        cannot end before the thaw; it does so then, and is not waited for.
    :raises LoadError: a writer ended by itself, or the folders will not do.
    """
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    if os.stat(str(progress.parent)).st_dev == os.stat(str(folder)).st_dev:
        raise LoadError(f"{progress}: must be on another filesystem than {directory}")
    if fio_rate and not shutil.which("fio"):
        raise LoadError("fio is not installed; install the package fio, or give --fio-rate 0")
    wanted = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    with Progress(progress, create=True) as shared:
        shared.pid = os.getpid()
        children = [_start_writer(writer, folder, shared) for writer in WRITERS]
        if fio_rate:
            children.append(_start_fio(folder, fio_rate, seconds + grace))
        try:
            got = signal.sigtimedwait(wanted, seconds)
        finally:
            _end(children, grace)
        if got is not None and got.si_signo == signal.SIGCHLD:
            raise LoadError("a writer ended by itself")


def _start_writer(writer: str, folder: Path, shared: Progress) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become_child()
        _WORK[writer](folder, lambda number: shared.finish(writer, number))
    except (OSError, LoadError) as error:
        sys.stderr.write(f"{writer}: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(1)


def _start_fio(folder: Path, rate: int, seconds: float) -> int:
    argv = ["fio", "--name=bulk", f"--directory={folder}", "--thread", "--ioengine=psync"]
    argv += ["--rw=randwrite", "--bs=16k", "--size=64m", "--direct=0", "--fallocate=none"]
    argv += [f"--rate={rate}m", "--norandommap", "--time_based", f"--runtime={int(seconds)}"]
    return subprocess.Popen(
        argv,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_become_child,
    ).pid


def _become_child() -> None:
    """Die with the parent, and be open to signals as any process is."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _end(children: list[int], grace: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in children:
            os.kill(pid, number)
        deadline = time.monotonic() + grace / 2
        while children and time.monotonic() < deadline:
            children = [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0] == 0]
            time.sleep(0.02)


def sample(progress: Path, ready: float) -> dict[str, int]:
    """Return what each writer has finished, once each has finished something.

    :param ready: seconds to wait for that.
    :raises LoadError: a writer had finished nothing by then.
    """
    deadline = time.monotonic() + ready
    while True:
        try:
            with Progress(progress) as shared:
                numbers = shared.sample()
        except LoadError:
            if time.monotonic() > deadline:
                raise
            numbers = {}
        if numbers and all(numbers.values()):
            return numbers
        if time.monotonic() > deadline:
            raise LoadError(f"not every writer has begun: {numbers}")
        time.sleep(0.05)


def stop(progress: Path, patience: float = 10) -> None:
    """End the load of this progress file; no error if it has ended already.

    :raises LoadError: it still ran after ``patience`` seconds.
    """
    with Progress(progress) as shared:
        pid = shared.pid
    deadline = time.monotonic() + patience
    while os.fsencode(str(progress)) in _content(Path(f"/proc/{pid}/cmdline")).split(b"\0"):
        if time.monotonic() > deadline:
            raise LoadError(f"the load, process {pid}, still runs")
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.05)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Keep a filesystem busy and check snapshots of it")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="write until SIGTERM")
    command.add_argument("--directory", type=Path, required=True, help="where to write")
    command.add_argument("--progress", type=Path, required=True, help="file, somewhere else")
    command.add_argument("--seconds", type=float, default=600, help="end by itself after this long")
    command.add_argument("--fio-rate", type=int, default=8, help="MiB a second, 0 for no fio")
    command.add_argument("--grace", type=float, default=4, help="seconds writers get to end")
    command = commands.add_parser("sample", help="print what each writer has finished")
    command.add_argument("--progress", type=Path, required=True)
    command.add_argument("--ready", type=float, default=0, help="seconds to wait for a beginning")
    command = commands.add_parser("verify", help="print what a snapshot lacks of a sample")
    command.add_argument("--snapshot-mount", type=Path, required=True)
    command.add_argument("--progress", type=json.loads, required=True, help="what sample printed")
    command = commands.add_parser("stop", help="end the load of a progress file")
    command.add_argument("--progress", type=Path, required=True)
    return parser.parse_args()


def main() -> int:
    """Run the command line; the return code is 1, with a sentence, where it cannot be done."""
    args = _arguments()
    try:
        if args.command == "run":
            run(args.directory, args.progress, args.seconds, args.fio_rate, args.grace)
        elif args.command == "sample":
            print(json.dumps(sample(args.progress, args.ready)))
        elif args.command == "verify":
            print(json.dumps(verify(args.snapshot_mount, args.progress)))
        else:
            stop(args.progress)
    except (LoadError, OSError) as error:
        print(f"load.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
