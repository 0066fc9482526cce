# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders with everything in them that a backup has to keep, and comparing two of them."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any


def grow(top: Path) -> None:
    """Make files of many kinds in ``top``, a new folder."""
    top.mkdir()
    (top / "empty").touch()
    (top / "a name with spaces and ümlauts\n").write_text("text\n")
    (top / os.fsdecode(b"\xff not UTF-8")).write_text("bytes\n")
    (top / "random").write_bytes(os.urandom(3_000_000))
    with (top / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    program = top / "program"
    program.write_text("#!/bin/sh\n")
    os.chown(program, 1234, 4321)
    program.chmod(0o4750)
    os.setxattr(program, "user.quiesce", b"\0value")
    os.link(program, top / "program as well")
    (top / "link").symlink_to("program")
    (top / "link to nothing").symlink_to("/nowhere")
    os.mkfifo(top / "pipe", 0o620)
    folder = top / "sticky" / "deep"
    folder.mkdir(parents=True)
    (folder / "old").write_text("old\n")
    os.utime(folder / "old", ns=(10**18 + 1, 10**18 + 123_456_789))
    os.utime(folder, ns=(10**18 + 2, 10**18 + 987_654_321))
    folder.parent.chmod(0o1777)


def described(top: Path) -> dict[str, dict[str, Any]]:
    """Say of every file below ``top`` what a backup has to keep of it, by its relative path."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in (".", *files, *(each for each in folders if Path(folder, each).is_symlink())):
            path = Path(folder, name)
            found[str(path.relative_to(top))] = _described(path)
    return found


def _described(path: Path) -> dict[str, Any]:
    seen = path.lstat()
    names = os.listxattr(path, follow_symlinks=False)
    return {
        "mode": oct(seen.st_mode),
        "owner": (seen.st_uid, seen.st_gid),
        "modified": seen.st_mtime_ns,
        "attributes": {name: os.getxattr(path, name, follow_symlinks=False) for name in names},
        "target": os.readlink(path) if path.is_symlink() else None,
        "content": _digest(path) if stat.S_ISREG(seen.st_mode) else None,
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(one: Path, other: Path) -> list[str]:
    """What the two folders differ in, a sentence for each file."""
    ours, theirs = described(one), described(other)
    told = [f"{name!r} is in {one} only" for name in sorted(set(ours) - set(theirs))]
    told += [f"{name!r} is in {other} only" for name in sorted(set(theirs) - set(ours))]
    for name in sorted(set(ours) & set(theirs)):
        what = [key for key, value in ours[name].items() if theirs[name][key] != value]
        told += [f"{name!r}: {key} {ours[name][key]} / {theirs[name][key]}" for key in what]
    return told
