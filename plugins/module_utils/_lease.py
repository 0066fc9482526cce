# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a lease: who holds what until when, and how it ended.

``/run/quiesce/lease-NAME/`` (root, 0700) holds ``lock``, which the guard's
processes hold locked for as long as one of them lives; ``socket``, on which
the guard answers; and ``record``, which says who and until when. Whether a
filesystem is frozen is asked of the kernel, never of the record.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import time
from typing import Any, Container

from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._ioctl import exchange, mount_tmpfs
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import locate

RUN = "/run/quiesce"
FLUSHING, ARMED = "flushing", "armed"
"""Phases of a guard in which it has frozen nothing yet. It writes the next one before it does."""
FREEZING, HOLDING, ENDED = "freezing", "held", "ended"
"""Phases of a guard in which it may have."""
BEFORE = (FLUSHING, ARMED, FREEZING)
"""Phases in which the set is not frozen yet, or not all of it."""

GUARD, SECOND, OTHER = "record.guard", "record.second", "record.other"
"""Who writes records: a guard, its second process, whoever else. Each has a file for the next one.

Of two that shared one, the later would put back the record that the earlier had just replaced.
"""

_IN_MEMORY = ("tmpfs", "ramfs")
_TMPFS = "mode=0700,size=64m"
_PREFIX = "lease-"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
# How an ended lease is remembered: long enough for a play that comes back to ask.
_REMEMBER_SECONDS = 86400
_RECORD_BYTES = 8 << 20
# What a later record of a lease may have more than the first.
_ROOM_BYTES = 1024
_MEMBER = ("path", "mountpoint", "source", "fstype", "device", "method")
_ENDED = ("held", "thawed_by", "frozen_seconds", "reported")
# Whoever asks whether a guard lives holds the lock for a moment.
_CLAIMS = 5
_TICK_SECONDS = 0.01
# What was opened as the record is written to again when it has been replaced twice since.
_READS = 3


def is_name(name: str) -> bool:
    """Whether it can name a lease."""
    return bool(_NAME.match(name))


def check_name(name: str) -> None:
    """``QuiesceError`` unless ``name`` can name a lease."""
    if not is_name(name):
        raise QuiesceError(
            "lease must be 1 to 64 letters, digits, '.', '_' or '-', and %r is not" % name
        )


def folder(name: str) -> str:
    """The folder of the lease ``name``."""
    return os.path.join(RUN, _PREFIX + name)


def prepare_run() -> None:
    """Make ``/run/quiesce``, in memory and for root alone.

    Where /run is on a disk, as in some containers, a tmpfs is mounted on the folder:
    a guard that wrote to what it has frozen would never thaw it.
    ``QuiesceError``: it cannot be made, or somebody else could write to it.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(RUN, 0o700)
        found = os.lstat(RUN)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o077:
            raise QuiesceError(
                "%s is not a folder of root with mode 0700; remove it and try again" % RUN
            )
        _keep_in_memory()
    except OSError as error:
        raise QuiesceError(
            "%s cannot be made (%s), and the guard needs it; nothing was frozen"
            % (RUN, error.strerror)
        ) from error


def _keep_in_memory() -> None:
    """Mount a tmpfs on the folder, unless it is on one; once, whoever else does so now."""
    below = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(below, fcntl.LOCK_EX)
        place = locate(RUN)
        os.close(place.fd)
        if place.mount.fstype not in _IN_MEMORY:
            mount_tmpfs(RUN, _TMPFS)
    finally:
        os.close(below)


def claim(name: str) -> int | None:
    """Take the lock of a lease for a new guard: its descriptor, or None while another holds it."""
    path = folder(name)
    for _attempt in range(_CLAIMS):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before may have removed it while we waited for it.
            if os.fstat(fd).st_nlink:
                break
        os.close(fd)
        time.sleep(0.01)
    else:
        return None
    for leftover in ("record", "socket"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(path, leftover))
    return fd


def guarded(name: str) -> bool:
    """Whether a process of that lease's guard lives."""
    try:
        fd = os.open(os.path.join(folder(name), "lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def wait_for_end(name: str, seconds: float) -> None:
    """Wait until no process of that lease's guard lives, for so long at most."""
    end = now() + seconds
    while guarded(name) and now() < end:
        time.sleep(_TICK_SECONDS)


def write(name: str, record: dict[str, Any], writer: str = OTHER) -> None:
    """Replace the record of a lease, whole or not at all.

    The first time, room is taken for all later ones as well: how a lease ended has to be said
    even when /run has filled up meanwhile.
    """
    path = os.path.join(folder(name), "record")
    spare = os.path.join(folder(name), writer)
    content = json.dumps(record).encode("ascii")
    size = _put(spare, content, len(content) + _ROOM_BYTES)
    if os.path.exists(path):
        exchange(spare, path)
        return
    os.rename(spare, path)
    for each in (GUARD, SECOND, OTHER):
        _put(os.path.join(folder(name), each), b"", size)


def _put(path: str, content: bytes, size: int) -> int:
    """Write a file that keeps the room it has, and has that many bytes at least; how many."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = max(os.fstat(fd).st_size, size)
        os.posix_fallocate(fd, 0, size)
        os.pwrite(fd, content.ljust(size), 0)
    finally:
        os.close(fd)
    return size


def conclude(
    name: str,
    held: bool,
    thawed_by: str,
    frozen_seconds: float | None,
    failure: dict[str, Any] | None = None,
    writer: str = OTHER,
) -> None:
    """Say in the record how the lease ended, for whoever asks later; what was said first stands."""
    record = read(name) or {"lease": {"name": name}, "filesystems": []}
    if record.get("ended"):
        return
    record["ended"] = {
        "held": held,
        "thawed_by": thawed_by,
        "frozen_seconds": frozen_seconds,
        "failure": failure,
        "reported": False,
    }
    write(name, record, writer)


def mark_released(name: str, devices: Container[str]) -> None:
    """These filesystems are held under it no more."""
    record = read(name)
    if record:
        for each in record["filesystems"]:
            each["released"] = bool(each.get("released")) or each["device"] in devices
        write(name, record)


def mark_reported(name: str) -> None:
    """Somebody was told how the lease ended; it is told again only to who asks by its name."""
    record = read(name)
    if record and record.get("ended"):
        record["ended"]["reported"] = True
        write(name, record)


def read(name: str) -> dict[str, Any] | None:
    """The record of a lease; None where there is none, or none that can be understood."""
    for _attempt in range(_READS):
        try:
            with open(os.path.join(folder(name), "record"), "rb") as stream:
                record = json.loads(stream.read(_RECORD_BYTES))
        except OSError:
            return None
        except (ValueError, RecursionError):
            continue
        return record if _understood(record, name) else None
    return None


def _understood(record: Any, name: str) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("lease"), dict):
        return False
    members = record.get("filesystems")
    return (
        record["lease"].get("name") == name
        and isinstance(members, list)
        and all(_is_member(member) for member in members)
        and (not record.get("ended") or _is_ending(record["ended"]))
    )


def _is_member(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in _MEMBER)


def _is_ending(value: Any) -> bool:
    return isinstance(value, dict) and all(key in value for key in _ENDED)


def is_over(record: dict[str, Any], alive: bool) -> bool:
    """Whether nothing is held under it (any more): it has ended, or died before it froze."""
    return bool(record.get("ended")) or (not alive and record.get("phase") in (FLUSHING, ARMED))


def left(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The filesystems that a record does not call thawed; for where there is no guard to ask."""
    return [each for each in record["filesystems"] if not each.get("released")]


def has_guard(record: dict[str, Any]) -> bool:
    """Whether the process that a record names as its guard is there."""
    try:
        with open("/proc/%d/cmdline" % record["lease"]["guard_pid"], "rb") as stream:
            return b"guard" in stream.read().split(b"\0")
    except (OSError, KeyError, TypeError):
        return False


def names() -> list[str]:
    """The leases that there is a folder of, live and ended."""
    try:
        return sorted(
            entry[len(_PREFIX) :]
            for entry in os.listdir(RUN)
            if entry.startswith(_PREFIX) and is_name(entry[len(_PREFIX) :])
        )
    except OSError:
        return []


def forget_old() -> None:
    """Remove what is left of leases that ended long ago."""
    for name in names():
        record = read(name)
        with contextlib.suppress(OSError):
            old = time.time() - os.stat(folder(name)).st_mtime > _REMEMBER_SECONDS
            if old and (record is None or is_over(record, guarded(name))):
                _forget_if_free(name)


def _forget_if_free(name: str) -> None:
    """Forget a lease unless a guard has it, or takes it at this moment."""
    lock = os.open(os.path.join(folder(name), "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        forget(name, lock)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def forget(name: str, lock: int | None = None) -> None:
    """Remove the folder of a lease that has ended and was reported.

    With ``lock``, the descriptor of its lock, only if that is still the lease's: else it was
    forgotten before, and its name may be another's by now.
    """
    if lock is not None and not os.fstat(lock).st_nlink:
        return
    path = folder(name)
    for entry in ("record", GUARD, SECOND, OTHER, "socket", "lock"):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(path, entry))
    with contextlib.suppress(OSError):
        os.rmdir(path)
