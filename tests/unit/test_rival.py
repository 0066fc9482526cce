# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of two guards goes first that would freeze the same filesystem."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _lease, _rival

from tests.unit.records import ENDED, put, record

Other = Callable[..., None]


@pytest.fixture
def other(run_folder: Path) -> Iterator[Other]:
    """Make another lease with a guard that has this phase and set."""
    locks: list[int] = []

    def make(name: str, phase: str, *, guarded: bool = True, **more: Any) -> None:
        folder = put(run_folder, name, record(name, phase=phase, **more))
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
        locks.append(lock)
        if guarded:
            fcntl.flock(lock, fcntl.LOCK_EX)

    yield make
    for each in locks:
        os.close(each)


def announce(*devices: str) -> tuple[str | None, bool]:
    """The rival of the lease ``own``, and whether that was announced."""
    noted: list[bool] = []
    rival = _rival.announce("own", devices, lambda: noted.append(True))
    return rival, bool(noted)


def test_nobody_else(run_folder: Path) -> None:
    assert announce("8:1") == (None, True)


def test_another_one_freezes_it(other: Other) -> None:
    other("other", _lease.FREEZING)
    assert announce("8:0", "8:1") == ("other", False)
    assert announce("8:2") == (None, True)


def test_its_own_record_is_no_rival(other: Other) -> None:
    other("own", _lease.FREEZING)
    assert announce("8:1") == (None, True)


@pytest.mark.parametrize("phase", [_lease.FLUSHING, _lease.ARMED, _lease.HOLDING, _lease.ENDED])
def test_what_is_not_being_frozen_is_for_the_kernel_to_refuse(other: Other, phase: str) -> None:
    other("other", phase)
    assert announce("8:1") == (None, True)


def test_one_that_is_no_more_is_no_rival(other: Other) -> None:
    other("dead", _lease.FREEZING, guarded=False)
    other("ended", _lease.FREEZING, ended=ENDED)
    assert announce("8:1") == (None, True)


def test_one_that_looks_for_ever_is_not_waited_for(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rival, "_PATIENCE_SECONDS", 0.2)
    stopped = os.open(run_folder / "freezing", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        began = time.monotonic()
        assert announce("8:1") == (None, True)
        assert time.monotonic() - began >= 0.2
    finally:
        os.close(stopped)


def test_nobody_looks_while_another_announces(run_folder: Path) -> None:
    def note() -> None:
        another = os.open(run_folder / "freezing", os.O_RDWR)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(another)

    assert _rival.announce("own", ["8:1"], note) is None
    # And it is free again.
    assert announce("8:1") == (None, True)


def test_without_room_for_the_lock_the_kernel_decides(run_folder: Path) -> None:
    (run_folder / "freezing").mkdir()
    assert announce("8:1") == (None, True)


def test_what_cannot_be_noted_is_told(run_folder: Path) -> None:
    def note() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        _rival.announce("own", ["8:1"], note)
