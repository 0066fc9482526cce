# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two guards that come to freeze the same filesystem at once: one goes first, the other not at all.

A set is frozen all at once, so each of the two could be first at one member of it. The kernel would
then refuse both.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Callable, Collection, Iterator

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

_LOCK = "freezing"
# To read the records takes milliseconds. A guard that was stopped in that is not waited for: then
# the kernel alone says who is first.
_PATIENCE_SECONDS = 1.0
_TICK_SECONDS = 0.001


def announce(name: str, devices: Collection[str], note: Callable[[], None]) -> str | None:
    """Say in the record of a lease that its guard freezes (``note``), unless another one does so.

    :param devices: the superblocks, ``MAJ:MIN``.
    :return: the lease that is freezing one of them just now; None if this one may.
    """
    with _alone():
        rival = next((each for each in _freezing(devices) if each != name), None)
        if rival is None:
            note()
    return rival


def _freezing(devices: Collection[str]) -> Iterator[str]:
    for name in _lease.names():
        record = _lease.read(name)
        if record is None or record.get("ended") or record.get("phase") != _lease.FREEZING:
            continue
        shared = any(each["device"] in devices for each in record["filesystems"])
        if shared and _lease.guarded(name):
            yield name


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other guard of this host looks or announces meanwhile."""
    try:
        lock = os.open(
            os.path.join(_lease.RUN, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError:
        # No room for it: the kernel alone says who is first.
        yield
        return
    try:
        end = now() + _PATIENCE_SECONDS
        while not _locked(lock) and now() < end:
            time.sleep(_TICK_SECONDS)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
