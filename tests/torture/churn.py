# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that change a tree in every way that they can, and remember what it has to look like.

    churn.py --directory DIR --report FILE --workers 4 --seed 7

Each worker has a folder of its own, of which it keeps a picture: names, links, lengths, contents,
modes. In one more folder they all get into each other's way. On SIGTERM every worker ends its
operation and writes its picture to ``FILE.N``, which is on another filesystem; :func:`differences`
says later what of it is not there. ``FILE.count`` holds the number of finished operations, a cell
of 8 bytes for each worker, while they go on.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import random
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = 40
MAX_BYTES = 64 << 10
PAUSE = 0.001
SHARED = "shared"


class Content:
    """What one inode holds; hard links share it."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.mode = 0o600


class Worker:
    """One process's folder, and its picture of it."""

    def __init__(self, directory: Path, number: int, seed: int) -> None:
        self.folder = directory / f"worker-{number}"
        self.folder.mkdir()
        self.shared = directory / SHARED
        self.random = random.Random(seed * 1000 + number)
        self.files: dict[str, Content] = {}
        self.links: dict[str, str] = {}
        self.folders: set[str] = set()
        self.unlinked: list[int] = []
        self.operations: list[Callable[[], None]] = [
            *(self.create, self.append, self.overwrite, self.truncate, self.allocate),
            *(self.map, self.rename, self.link, self.symlink, self.unlink, self.chmod),
            *(self.folder_made, self.folder_removed, self.open_and_unlink),
            *(self.share_create, self.share_move, self.share_unlink),
        ]

    # Picking

    def _data(self) -> bytes:
        return self.random.randbytes(self.random.randint(1, MAX_BYTES // 4))

    def _free(self) -> str | None:
        name = f"n{self.random.randrange(NAMES)}"
        taken = name in self.files or name in self.links or name in self.folders
        return None if taken else name

    def _file(self) -> str | None:
        return self.random.choice(sorted(self.files)) if self.files else None

    def _open(self, name: str, flags: int) -> int:
        return os.open(self.folder / name, flags | os.O_CLOEXEC, 0o600)

    # Operations of its own folder

    def create(self) -> None:
        """A new file; every fourth is synced."""
        name = self._free()
        if name is None:
            self.unlink()
            return
        data = self._data()
        fd = self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            _write(fd, data, 0)
            if self.random.random() < 0.25:
                os.fsync(fd)
        finally:
            os.close(fd)
        self.files[name] = Content(data)

    def append(self) -> None:
        """More at the end of a file."""
        self._put(lambda content: len(content.data))

    def overwrite(self) -> None:
        """Something else in the middle of a file, or beyond its end."""
        self._put(lambda _content: self.random.randrange(MAX_BYTES // 2))

    def _put(self, where: Callable[[Content], int]) -> None:
        name = self._file()
        if name is None:
            return
        content, data = self.files[name], self._data()
        at = where(content)
        if at + len(data) > MAX_BYTES:
            self.truncate()
            return
        fd = self._open(name, os.O_WRONLY)
        try:
            _write(fd, data, at)
        finally:
            os.close(fd)
        content.data.extend(bytes(max(0, at - len(content.data))))
        content.data[at : at + len(data)] = data

    def truncate(self) -> None:
        """Another length."""
        name = self._file()
        if name is None:
            return
        content, size = self.files[name], self.random.randrange(MAX_BYTES // 2)
        os.truncate(self.folder / name, size)
        content.data.extend(bytes(max(0, size - len(content.data))))
        del content.data[size:]

    def allocate(self) -> None:
        """Room behind the end."""
        name = self._file()
        if name is None:
            return
        content = self.files[name]
        size = min(MAX_BYTES, len(content.data) + self.random.randint(1, 8192))
        fd = self._open(name, os.O_WRONLY)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
        content.data.extend(bytes(max(0, size - len(content.data))))

    def map(self) -> None:
        """Write through a shared mapping."""
        name = self._file()
        if name is None or not self.files[name].data:
            return
        content = self.files[name]
        at = self.random.randrange(len(content.data))
        data = self.random.randbytes(min(len(content.data) - at, 5000))
        fd = self._open(name, os.O_RDWR)
        try:
            with mmap.mmap(fd, len(content.data)) as pages:
                pages[at : at + len(data)] = data
        finally:
            os.close(fd)
        content.data[at : at + len(data)] = data

    def rename(self) -> None:
        """A new name, or that of another file."""
        old = self._file()
        new = self._free() if self.random.random() < 0.5 else self._file()
        if old is None or new is None:
            return
        os.rename(self.folder / old, self.folder / new)
        # Two links of one inode: rename leaves both.
        if new == old or self.files.get(new) is self.files[old]:
            return
        self.files[new] = self.files.pop(old)

    def link(self) -> None:
        """One more name for a file."""
        old, new = self._file(), self._free()
        if old is not None and new is not None:
            os.link(self.folder / old, self.folder / new)
            self.files[new] = self.files[old]

    def symlink(self) -> None:
        """A symbolic link, to nothing in most cases."""
        name = self._free()
        if name is not None:
            target = f"n{self.random.randrange(NAMES)}"
            os.symlink(target, self.folder / name)
            self.links[name] = target

    def unlink(self) -> None:
        """Remove a file or a symbolic link."""
        names = sorted([*self.files, *self.links])
        if names:
            name = self.random.choice(names)
            os.unlink(self.folder / name)
            self.files.pop(name, None)
            self.links.pop(name, None)

    def chmod(self) -> None:
        """Other permissions."""
        name = self._file()
        if name is not None:
            mode = self.random.choice((0o600, 0o640, 0o644, 0o400))
            os.chmod(self.folder / name, mode)
            self.files[name].mode = mode

    def folder_made(self) -> None:
        """An empty folder."""
        name = self._free()
        if name is not None:
            (self.folder / name).mkdir()
            self.folders.add(name)

    def folder_removed(self) -> None:
        """Remove an empty folder."""
        if self.folders:
            name = self.random.choice(sorted(self.folders))
            (self.folder / name).rmdir()
            self.folders.remove(name)

    def open_and_unlink(self) -> None:
        """A file without a name, open for a while."""
        fd = self._open("nameless", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.unlink(self.folder / "nameless")
        _write(fd, self._data(), 0)
        self.unlinked.append(fd)
        if len(self.unlinked) > 4:
            os.close(self.unlinked.pop(0))

    # Operations where the others are too

    def _other(self) -> Path:
        return self.shared / f"s{self.random.randrange(12)}"

    def share_create(self) -> None:
        """Write what another may have written, moved or removed."""
        with contextlib.suppress(FileNotFoundError):
            self._other().write_bytes(self._data())

    def share_move(self) -> None:
        """Move over, or link, what may be gone."""
        change = self.random.choice((os.rename, os.link))
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            change(self._other(), self._other())

    def share_unlink(self) -> None:
        """Remove what may be gone."""
        with contextlib.suppress(FileNotFoundError):
            self._other().unlink()

    # The picture

    def picture(self) -> dict[str, Any]:
        """What the folder has to look like, as JSON."""
        files = {
            name: [len(each.data), each.mode, hashlib.sha256(each.data).hexdigest()]
            for name, each in self.files.items()
        }
        return {"files": files, "links": self.links, "folders": sorted(self.folders)}


def _write(fd: int, data: bytes, at: int) -> None:
    if os.pwrite(fd, data, at) != len(data):
        raise OSError(f"a write of {len(data)} bytes was cut short")


def found(folder: Path) -> dict[str, Any]:
    """The picture of what is really in a worker's folder."""
    files, links, folders = {}, {}, []
    for entry in os.scandir(folder):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            links[entry.name] = os.readlink(entry.path)
        elif stat.S_ISDIR(status.st_mode):
            folders.append(entry.name)
        else:
            data = Path(entry.path).read_bytes()
            mode = stat.S_IMODE(status.st_mode)
            files[entry.name] = [len(data), mode, hashlib.sha256(data).hexdigest()]
    return {"files": files, "links": links, "folders": sorted(folders)}


def differences(directory: Path, report: Path, workers: int) -> list[str]:
    """What is not as the workers left it, a line for each; empty if everything is."""
    lines = []
    for number in range(workers):
        wanted = json.loads(Path(f"{report}.{number}").read_text())
        real = found(directory / f"worker-{number}")
        for kind in ("files", "links"):
            for name in sorted({*wanted[kind], *real[kind]}):
                pair = wanted[kind].get(name), real[kind].get(name)
                if pair[0] != pair[1]:
                    lines.append(f"worker {number}: {name}: left {pair[0]}, found {pair[1]}")
        if wanted["folders"] != real["folders"]:
            lines.append(f"worker {number}: {wanted['folders']}, found {real['folders']}")
    return lines


def _work(worker: Worker, report: Path, number: int) -> None:
    ended = []
    signal.signal(signal.SIGTERM, lambda *_ignored: ended.append(True))
    with open(f"{report}.count", "r+b") as file:
        cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
    while not ended:
        worker.random.choice(worker.operations)()
        cells[number] += 1
        time.sleep(PAUSE)
    Path(f"{report}.{number}").write_text(json.dumps(worker.picture()))


def main() -> int:
    """Run until SIGTERM; 1 if a worker failed, which it says on stderr."""
    parser = argparse.ArgumentParser(description="Change a tree in every way")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    (options.directory / SHARED).mkdir()
    pids = []
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    for number in range(options.workers):
        worker = Worker(options.directory, number, options.seed)
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            try:
                _work(worker, options.report, number)
            except BaseException as error:
                sys.stderr.write(f"worker {number}: {error!r}\n")
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    signal.sigwait([signal.SIGTERM])
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


if __name__ == "__main__":
    sys.exit(main())
