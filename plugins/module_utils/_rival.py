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
    folder = os.open(_lease.RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = now() + _PATIENCE_SECONDS
        while not _locked(folder) and now() < end:
            time.sleep(_TICK_SECONDS)
        yield
    finally:
        os.close(folder)


def _locked(folder: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
