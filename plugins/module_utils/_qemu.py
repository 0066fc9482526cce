# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of the disks of a virtual machine, all as they are at one moment, by its monitor.

qemu copies while the machine runs on; a block that is about to be written over is copied before.
The copy has the suffix ``.part`` until it is whole. Nothing of the machine's own disks changes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import time
from typing import Any, NamedTuple, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._qmp import Qmp

_POLL_SECONDS = 0.2
_CANCEL_SECONDS = 30.0
_PART = ".part"


class Disk(NamedTuple):
    """A disk, and where the copy of it is to be.

    ``name`` is its device or node, ``image`` the file that it is in, and ``size`` its bytes, which
    a copy takes up whatever is in them.
    """

    name: str
    image: str
    size: int
    copy: str
    identifier: str

    @property
    def part(self) -> str:
        """The copy while it is not whole."""
        return self.copy + _PART

    @property
    def note(self) -> str:
        """The file that says what the copy is."""
        return self.copy + ".json"

    def facts(self) -> dict[str, Any]:
        """It, as the module returns it."""
        return {"source": self.name, "image": self.image, "snapshot": self.copy, "size": self.size}


class Copies:
    """The copies of one name."""

    def __init__(self, qmp: Qmp, name: str, disks: Sequence[str], folder: str | None) -> None:
        """Look at the machine; ``QuiesceError``: a disk is not there, or in no file.

        :param disks: device, node or id of the disks; all that can be written to if empty.
        :param folder: where to make the copies; beside each image if None.
        """
        if not name or "/" in name or "\0" in name:
            raise QuiesceError(
                "%s is no name of a snapshot: it is a part of a file's" % shown(name)
            )
        self._qmp = qmp
        self._name = name
        self._folder = folder
        blocks = [each for each in qmp.execute("query-block") if "inserted" in each]
        if disks:
            chosen = [self._find(blocks, wanted) for wanted in disks]
        else:
            chosen = [each for each in blocks if not each["inserted"]["ro"]]
        self.disks = [self._disk(each) for each in chosen]
        if not self.disks:
            raise QuiesceError("the virtual machine at %s has no disk" % shown(qmp.path))
        copies = [disk.copy for disk in self.disks]
        if len(set(copies)) < len(copies):
            raise QuiesceError("two of the disks would have the same copy: %s" % sorted(copies))

    def make(self, seconds: float | None, predict: bool) -> dict[str, bool]:
        """Have all of them, and wait for ``seconds`` until they are whole, if not None.

        Returns whether that ``changed`` anything (would, with ``predict``), whether they had been
        ``begun`` before, and whether they are ``complete``. ``QuiesceError``: something else has a
        name of theirs, there is no room, or one failed.
        """
        if all(self._noted(disk) and os.path.isfile(disk.copy) for disk in self.disks):
            return {"changed": False, "begun": True, "complete": True}
        begun = self._under_way()
        if not begun:
            self._check_names()
            self._check_room()
        wait = seconds is not None
        if not predict:
            if not begun:
                self._begin()
            if seconds is not None:
                self._finish(seconds)
        return {"changed": wait or not begun, "begun": begun, "complete": wait and not predict}

    def remove(self, predict: bool) -> dict[str, bool]:
        """Remove what there is of them, whole or not; returns what :meth:`make` does."""
        begun = self._under_way()
        # What has a name of theirs, and no note, is somebody else's.
        ours = [disk for disk in self.disks if self._noted(disk)]
        changed = bool(ours) if predict else self._remove(ours)
        return {"changed": changed, "begun": begun, "complete": False}

    def _check_names(self) -> None:
        for path in [each for disk in self.disks for each in (disk.copy, disk.part, disk.note)]:
            if os.path.lexists(path):
                raise QuiesceError(
                    "the name %s is taken: %s exists, and nothing beside it says that it is this "
                    "very snapshot, whole; choose another name, or remove it"
                    % (shown(self._name), shown(path))
                )

    def _under_way(self) -> bool:
        """Whether they have been begun, and nobody has waited for their end."""
        jobs = self._jobs()
        return all(disk.identifier in jobs and os.path.exists(disk.part) for disk in self.disks)

    def _begin(self) -> None:
        """Begin all at one moment; ``QuiesceError``: none was begun, and nothing is left of it."""
        begun = []
        try:
            for disk in self.disks:
                make_empty(disk)
                begun.append(disk)
                _write_note(disk, self._name)
                self._open(disk)
            actions = [
                {
                    "type": "blockdev-backup",
                    "data": {
                        "job-id": disk.identifier,
                        "device": disk.name,
                        "target": disk.identifier,
                        "sync": "full",
                        "auto-dismiss": False,
                    },
                }
                for disk in self.disks
            ]
            # One that fails later ends the others.
            whole = {"completion-mode": "grouped"}
            self._qmp.execute("transaction", actions=actions, properties=whole)
        except BaseException:
            self._remove(begun)
            raise

    def _finish(self, seconds: float) -> None:
        """Wait until they are whole; ``QuiesceError`` when one fails, or after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            jobs = self._jobs()
            ours = [jobs.get(disk.identifier, {}) for disk in self.disks]
            for disk, job in zip(self.disks, ours):
                if not job or "error" in job:
                    raise QuiesceError(
                        "the copy of %s came to nothing: %s"
                        % (shown(disk.name), job.get("error", "its job is gone"))
                    )
            if all(job["status"] == "concluded" for job in ours):
                break
            if time.monotonic() > deadline:
                done = [100.0 * j["current-progress"] / (j["total-progress"] or 1) for j in ours]
                raise QuiesceError(
                    "the copies are not whole after %g s (%.0f %%)" % (seconds, min(done))
                )
            time.sleep(_POLL_SECONDS)
        for disk in self.disks:
            self._release(disk)
        for disk in self.disks:
            _make_last(disk)

    def _remove(self, disks: Sequence[Disk]) -> bool:
        found = False
        for disk in disks:
            found = self._cancel(disk) or found
        for disk in disks:
            found = self._release(disk) or found
            for path in (disk.part, disk.copy, disk.note):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                    found = True
        return found

    @staticmethod
    def _find(blocks: Sequence[dict[str, Any]], wanted: str) -> dict[str, Any]:
        for each in blocks:
            names = [each["device"], each["inserted"].get("node-name")]
            if wanted in names or wanted in each.get("qdev", "").split("/"):
                return each
        known = [each["device"] or each["inserted"].get("node-name") for each in blocks]
        raise QuiesceError(
            "the virtual machine has no disk %s; there are %s" % (shown(wanted), ", ".join(known))
        )

    def _disk(self, block: dict[str, Any]) -> Disk:
        inserted = block["inserted"]
        name = block["device"] or inserted["node-name"]
        image = inserted["image"]
        path = os.path.join(self._own_folder(), inserted["file"])
        if not os.path.isfile(path):
            raise QuiesceError(
                "disk %s is in no file of this machine (%s)" % (shown(name), shown(path))
            )
        size = image["virtual-size"]
        folder = self._folder or os.path.dirname(path)
        copy = os.path.join(folder, "%s.%s" % (os.path.basename(path), self._name))
        digest = hashlib.sha256(("%s %s" % (name, copy)).encode()).hexdigest()[:12]
        return Disk(name, path, size, copy, "quiesce-%s" % digest)

    def _own_folder(self) -> str:
        """The folder from which qemu names its files."""
        try:
            return os.readlink("/proc/%d/cwd" % self._qmp.pid())
        except OSError:
            return "/"

    def _check_room(self) -> None:
        wanted: dict[int, int] = {}
        for disk in self.disks:
            folder = os.path.dirname(disk.copy)
            try:
                device, room = os.stat(folder).st_dev, os.statvfs(folder)
            except OSError as error:
                raise QuiesceError(
                    "no copy can be made in %s: %s" % (shown(folder), error.strerror)
                ) from error
            wanted[device] = wanted.get(device, 0) + disk.size
            free = room.f_bavail * room.f_frsize
            if free < wanted[device]:
                raise QuiesceError(
                    "%s has %d bytes of free space, and the copies want %d"
                    % (shown(folder), free, wanted[device])
                )

    def _noted(self, disk: Disk) -> bool:
        """Whether it is written beside the copy that it is this very one."""
        with contextlib.suppress(OSError, ValueError), open(disk.note, encoding="utf-8") as stream:
            return bool(json.load(stream) == _said(disk, self._name))
        return False

    def _open(self, disk: Disk) -> None:
        """Have qemu open the empty file for the copy."""
        file = {"driver": "file", "filename": disk.part}
        node = {"driver": "raw", "node-name": disk.identifier, "file": file}
        self._qmp.execute("blockdev-add", **node)

    def _jobs(self) -> dict[str, dict[str, Any]]:
        return {job["id"]: job for job in self._qmp.execute("query-jobs")}

    def _cancel(self, disk: Disk) -> bool:
        """End its job, if there is one, and wait for that."""
        deadline = time.monotonic() + _CANCEL_SECONDS
        found = False
        while True:
            status = self._jobs().get(disk.identifier, {}).get("status")
            if status in (None, "concluded"):
                return found or status is not None
            found = True
            # It may end by itself in this very moment.
            with contextlib.suppress(QuiesceError):
                self._qmp.execute("job-cancel", id=disk.identifier)
            if time.monotonic() > deadline:
                raise QuiesceError("the copy of %s does not end" % shown(disk.name))
            time.sleep(_POLL_SECONDS)

    def _release(self, disk: Disk) -> bool:
        """Have qemu forget its job, which is over, and close the copy; whether there was any."""
        if disk.identifier in self._jobs():
            self._qmp.execute("job-dismiss", id=disk.identifier)
        nodes = self._qmp.execute("query-named-block-nodes", flat=True)
        open_now = any(node["node-name"] == disk.identifier for node in nodes)
        if open_now:
            self._qmp.execute("blockdev-del", **{"node-name": disk.identifier})
        return open_now


def make_empty(disk: Disk) -> None:
    """Make an empty file for the copy, which qemu can open as it can the image.

    ``QuiesceError``: it could not be made, or there is no room for it; nothing is left of it.
    """
    try:
        owner = os.stat(disk.image)
        fd = os.open(disk.part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.fchown(fd, owner.st_uid, owner.st_gid)
            _take_room(fd, disk.size)
            os.ftruncate(fd, disk.size)
        except BaseException:
            os.unlink(disk.part)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise QuiesceError(
            "%s could not be made: %s" % (shown(disk.part), error.strerror)
        ) from error


def _take_room(fd: int, size: int) -> None:
    """Give the file all of its room now; ``OSError``: there is none.

    Where a copy runs out of room, qemu fails the guest's own writes. ``os.posix_fallocate`` would
    write to every block where the filesystem knows of no allocation; nothing is done there.
    """
    allocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
    if size and allocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(number, os.strerror(number))


def _said(disk: Disk, name: str) -> dict[str, Any]:
    return {"name": name, **disk.facts()}


def _write_note(disk: Disk, name: str) -> None:
    """Write down beside a copy what it will be."""
    with open(disk.note, "w", encoding="utf-8") as stream:
        json.dump(_said(disk, name), stream)
    _sync(disk.note)


def _make_last(disk: Disk) -> None:
    """Give a whole copy its name."""
    _sync(disk.part)
    os.rename(disk.part, disk.copy)
    _sync(os.path.dirname(disk.copy))


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_libc = ctypes.CDLL(None, use_errno=True)
