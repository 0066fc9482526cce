# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a lease: one guard for each, and whether it lives."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _lease

from tests.unit.records import put, record


def test_a_claim_is_for_one_alone(run_folder: Path) -> None:
    first = _lease.claim("x")
    assert first is not None
    assert (run_folder / "lease-x").stat().st_mode & 0o777 == 0o700
    assert _lease.guarded("x")
    assert _lease.claim("x") is None
    assert _lease.guarded("x")
    other = _lease.claim("y")
    assert other is not None
    os.close(first)
    assert not _lease.guarded("x")
    again = _lease.claim("x")
    assert again is not None
    for fd in (again, other):
        os.close(fd)


def test_a_claim_that_is_refused_leaves_no_descriptor_and_no_damage(run_folder: Path) -> None:
    first = _lease.claim("x")
    assert first is not None
    _lease.write("x", record())
    before = len(os.listdir("/proc/self/fd"))
    assert _lease.claim("x") is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert _lease.read("x") == record()
    os.close(first)


def test_a_claim_removes_what_the_one_before_left(run_folder: Path) -> None:
    left = put(run_folder, "x", record())
    (left / "socket").touch()
    fd = _lease.claim("x")
    assert fd is not None
    assert os.listdir(left) == ["lock"]
    os.close(fd)


def test_whoever_looks_whether_a_guard_lives_does_not_hinder_a_claim(run_folder: Path) -> None:
    put(run_folder, "x", None)
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            _lease.guarded("x")
            time.sleep(0.001)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _each in range(50):
            fd = _lease.claim("x")
            assert fd is not None
            os.close(fd)
    finally:
        stop.set()
        asking.join()


def test_a_claim_while_the_one_before_removes_itself(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not end up with the lock of a folder that is no more."""
    first = _lease.claim("x")
    assert first is not None

    def forgotten_meanwhile(_seconds: float) -> None:
        if _lease.guarded("x"):
            _lease.forget("x")
            os.close(first)

    monkeypatch.setattr(_lease, "time", SimpleNamespace(sleep=forgotten_meanwhile))
    fd = _lease.claim("x")
    assert fd is not None
    assert os.path.samestat(os.fstat(fd), os.stat(run_folder / "lease-x" / "lock"))
    assert _lease.guarded("x")
    os.close(fd)


def test_a_claim_that_waits_at_the_lock_while_the_folder_goes(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _lease.claim("x")
    assert first is not None
    real = fcntl.flock

    def late(fd: int, operation: int) -> None:
        if os.path.samestat(os.fstat(fd), os.fstat(first)):
            _lease.forget("x")
            os.close(first)
            monkeypatch.setattr(fcntl, "flock", real)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    fd = _lease.claim("x")
    assert fd is not None
    assert os.path.samestat(os.fstat(fd), os.stat(run_folder / "lease-x" / "lock"))
    os.close(fd)


def test_two_who_look_whether_a_guard_lives_do_not_see_each_other(run_folder: Path) -> None:
    put(run_folder, "x", None)
    with (run_folder / "lease-x" / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not _lease.guarded("x")


def test_nobody_guards_what_is_not_there(run_folder: Path) -> None:
    assert not _lease.guarded("x")
    put(run_folder, "x", None)
    assert not _lease.guarded("x")
    assert os.listdir(run_folder / "lease-x") == []
