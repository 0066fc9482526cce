# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a tree in every way that there is, and say how long each took.

    readers.py make FOLDER      make the tree
    readers.py look FOLDER      read it, and print {"list": seconds, …, "sum": digest of it all}
    readers.py bulk FOLDER      read all of it, in a memory cgroup for instance; prints the bytes

Nothing of ``look`` and ``bulk`` may need the filesystem to be writable.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

BULK_FILES = 24
BULK_BYTES = 4 << 20


def make(folder: Path) -> None:
    """A tree with something for each way of reading."""
    chance = random.Random(491)
    (folder / "deep" / "er").mkdir(parents=True)
    for number in range(60):
        (folder / "deep" / "er" / f"file-{number}").write_bytes(chance.randbytes(300 * number))
    (folder / "data").write_bytes(chance.randbytes(1 << 20))
    (folder / "link").symlink_to("deep/er/file-7")
    os.setxattr(folder / "data", "user.torture", b"value")
    shutil.copy(shutil.which("true") or "/bin/true", folder / "program")
    with (folder / "holes").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"in the middle")
    for number in range(BULK_FILES):
        (folder / f"bulk-{number}").write_bytes(chance.randbytes(BULK_BYTES))


def _mapped(folder: Path) -> bytes:
    with (folder / "data").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=1) as pages:
        return hashlib.sha256(pages).digest()


def _sent(folder: Path) -> bytes:
    memory = os.memfd_create("sent")
    with (folder / "data").open("rb") as file:
        while os.sendfile(memory, file.fileno(), None, 1 << 20):
            pass
    return hashlib.sha256(os.pread(memory, 1 << 20, 0)).digest()


def _locked(folder: Path) -> bytes:
    with (folder / "data").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return b"locked"


def _middle(folder: Path) -> bytes:
    fd = os.open(folder / "holes", os.O_RDONLY)
    at = os.lseek(fd, 0, os.SEEK_DATA)
    return os.pread(fd, 13, 4 << 20) + bytes([at <= 4 << 20])


def _read_all(folder: Path) -> bytes:
    total = hashlib.sha256()
    for path in sorted((folder / "deep" / "er").iterdir()):
        total.update(path.read_bytes())
    return total.digest()


def _executed(folder: Path) -> bytes:
    return bytes([subprocess.run([str(folder / "program")], check=False).returncode])


_WAYS: dict[str, Callable[[Path], bytes]] = {
    "statfs": lambda folder: str(os.statvfs(folder).f_files >= 0).encode(),
    "list": lambda folder: "".join(sorted(os.listdir(folder))).encode(),
    "stat": lambda folder: str((folder / "data").stat().st_size).encode(),
    "read": lambda folder: hashlib.sha256((folder / "data").read_bytes()).digest(),
    "map": _mapped,
    "send": _sent,
    "link": lambda folder: os.readlink(folder / "link").encode(),
    "follow": lambda folder: hashlib.sha256((folder / "link").read_bytes()).digest(),
    "xattr": lambda folder: os.getxattr(folder / "data", "user.torture"),
    "access": lambda folder: str(os.access(folder / "program", os.X_OK)).encode(),
    "lock": _locked,
    "holes": _middle,
    "tree": _read_all,
    "execute": _executed,
}


def look(folder: Path, order: list[str]) -> dict[str, object]:
    """Seconds for each way, and a digest of what was read, which no order changes."""
    answers, seconds = {}, {}
    for way in order:
        began = time.monotonic()
        answers[way] = _WAYS[way](folder)
        seconds[way] = round(time.monotonic() - began, 4)
    total = hashlib.sha256(b"".join(answers[way] for way in sorted(answers)))
    return {**seconds, "sum": total.hexdigest()}


def bulk(folder: Path) -> int:
    """Read the big files, bit by bit; returns bytes."""
    done = 0
    for path in sorted(folder.glob("bulk-*")):
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(64 << 10):
                done += len(chunk)
    return done


def main() -> None:
    """Do what the first argument says."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        make(folder)
    elif what == "bulk":
        print(bulk(folder))
    else:
        order = sorted(_WAYS)
        random.shuffle(order)
        print(json.dumps(look(folder, order)))


if __name__ == "__main__":
    main()
