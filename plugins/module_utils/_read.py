# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading all that is in a folder tree, to see that it can be read."""

from __future__ import annotations

import errno
import os
import stat
from typing import Iterator

from ansible_collections.quiesce.storage.plugins.module_utils._errors import shown
from ansible_collections.quiesce.storage.plugins.module_utils._process import (
    allow_many_descriptors,
)

_READ_BYTES = 1 << 20
# After so many things that cannot be read, more would say nothing new.
_ENOUGH = 10
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _EnoughError(Exception):
    """Too much cannot be read."""


class Reader:
    """Counts what it has read: ``files``, ``bytes`` of their data, and why others could not be.

    ``locked`` are those that need a key which the kernel does not have.
    """

    def __init__(self, contents: bool) -> None:
        self.contents = contents
        self.files = self.bytes = self.locked = 0
        self.reasons: list[str] = []
        self._seen: set[tuple[int, int]] = set()

    def read(self, root: str) -> None:
        """Read the tree below the folder ``root``; never raises ``OSError``."""
        # One descriptor for each level, so that no path is too long.
        allow_many_descriptors()
        try:
            self._walk(root)
        except _EnoughError:
            self.reasons.append("There may be more; it was not read any further.")

    def _walk(self, root: str) -> None:
        levels: list[tuple[int, str, Iterator[os.DirEntry[str]]]] = []
        self._descend(levels, root, None, "")
        while levels:
            fd, path, entries = levels[-1]
            entry = self._next(entries, path)
            if entry is None:
                levels.pop()
                os.close(fd)
                continue
            name = path + "/" + entry.name
            try:
                self._look(levels, fd, name, entry)
            except OSError as error:
                self._cannot(name, error)

    def _look(
        self,
        levels: list[tuple[int, str, Iterator[os.DirEntry[str]]]],
        fd: int,
        name: str,
        entry: os.DirEntry[str],
    ) -> None:
        status = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._descend(levels, entry.name, fd, name)
        elif stat.S_ISLNK(status.st_mode):
            os.readlink(entry.name, dir_fd=fd)
        elif stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in self._seen:
                    return
                self._seen.add((status.st_dev, status.st_ino))
            self.files += 1
            if self.contents:
                self._contents(entry.name, fd)

    def _descend(
        self,
        levels: list[tuple[int, str, Iterator[os.DirEntry[str]]]],
        name: str,
        above: int | None,
        path: str,
    ) -> None:
        try:
            fd = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=above)
            levels.append((fd, path, os.scandir(fd)))
        except OSError as error:
            self._cannot(path or "/", error)

    def _next(self, entries: Iterator[os.DirEntry[str]], path: str) -> os.DirEntry[str] | None:
        try:
            return next(entries, None)
        except OSError as error:
            self._cannot(path or "/", error)
            return None

    def _contents(self, name: str, above: int) -> None:
        try:
            fd = os.open(name, _FLAGS, dir_fd=above)
        except OSError as error:
            if error.errno != errno.ENOKEY:
                raise
            self.locked += 1
            return
        try:
            self._data(fd)
        finally:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    def _data(self, fd: int) -> None:
        """Read what is not a hole."""
        end = 0
        while True:
            try:
                start = os.lseek(fd, end, os.SEEK_DATA)
                end = os.lseek(fd, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # a hole, and then the end
                raise
            os.lseek(fd, start, os.SEEK_SET)
            while start < end:
                data = os.read(fd, min(_READ_BYTES, end - start))
                if not data:
                    raise OSError(errno.EIO, "it ends before its data does")
                start += len(data)
                self.bytes += len(data)

    def _cannot(self, name: str, error: OSError) -> None:
        self.reasons.append("%s cannot be read: %s." % (shown(name), error.strerror))
        if len(self.reasons) >= _ENOUGH:
            raise _EnoughError
