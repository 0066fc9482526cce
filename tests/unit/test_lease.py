# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a lease, and the lock that says whether its guard lives."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _ioctl, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import Mount, Place

from tests.unit.records import ENDED, MEMBER, put, record

TOLD = {**ENDED, "failure": None}


@pytest.mark.parametrize("name", ["a", "A.b_c-9", ".", "..", "-", "_", "0", "x" * 64])
def test_good_names(name: str) -> None:
    _lease.check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, "a/b", "a b", "a\n", "a\0", "ä", "\uff41", "\u0663", "a:b", "*", "\udcff"],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(QuiesceError, match="1 to 64 letters"):
        _lease.check_name(name)


@pytest.mark.parametrize(
    "good", [record(), record(ended=dict(TOLD)), record(filesystems=[]), record(later="more")]
)
def test_what_is_written_is_read(run_folder: Path, good: dict[str, Any]) -> None:
    put(run_folder, "x", None)
    _lease.write("x", good)
    assert _lease.read("x") == good
    # The others keep the room that the next records take.
    kept = sorted(["record", _lease.GUARD, _lease.SECOND, _lease.OTHER])
    assert sorted(os.listdir(run_folder / "lease-x")) == kept
    assert (run_folder / "lease-x" / "record").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\0",
        b"{",
        b"\xff\xfe{",
        b"null",
        b"[]",
        b"7",
        b'"lease"',
        b"NaN",
        b"{}",
        json.dumps(record()).encode()[:-1],
        json.dumps(record()).encode() + b"}",
        b"[" * 200_000,
        b'{"lease": ' * 100_000,
        b"1" * 10_000,
        record("y"),
        record(lease=None),
        record(lease=[]),
        record(lease={}),
        record(lease={"name": ["x"]}),
        record(filesystems=None),
        record(filesystems={}),
        record(filesystems="8:1"),
        record(filesystems=[None]),
        record(filesystems=["device"]),
        record(filesystems=[[]]),
        record(filesystems=[dict(MEMBER), {}]),
        *[record(filesystems=[{**MEMBER, key: None}]) for key in MEMBER],
        *[record(filesystems=[{**MEMBER, key: ["8:1"]}]) for key in MEMBER],
        record(ended=True),
        record(ended="deadline"),
        record(ended=[1]),
        *[
            record(ended={k: v for k, v in TOLD.items() if k != key})
            for key in TOLD
            if key != "failure"
        ],
    ],
    ids=lambda content: repr(content)[:60],
)
def test_what_is_not_understood_is_no_record(run_folder: Path, content: Any) -> None:
    put(run_folder, "x", content)
    assert _lease.read("x") is None


def test_a_record_that_is_too_long_is_none(run_folder: Path) -> None:
    put(run_folder, "x", record(padding="x" * (8 << 20)))
    assert _lease.read("x") is None


def test_no_folder_no_record(run_folder: Path) -> None:
    assert _lease.read("x") is None
    put(run_folder, "y", None)
    (run_folder / "lease-y" / "record").mkdir()
    assert _lease.read("y") is None


def test_a_write_that_fails_leaves_the_old_record(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(run_folder, "x", record())

    def no_room(_fd: int, _content: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", no_room)
    with pytest.raises(OSError, match="No space"):
        _lease.write("x", record(ended=dict(TOLD)))
    assert _lease.read("x") == record()


def test_later_records_take_no_more_room(run_folder: Path) -> None:
    put(run_folder, "x", None)
    _lease.write("x", record())
    before = {path.stat().st_ino for path in (run_folder / "lease-x").glob("record*")}
    sizes = {path.stat().st_blocks for path in (run_folder / "lease-x").glob("record*")}
    assert len(sizes) == 1
    for writer in (_lease.GUARD, _lease.SECOND, _lease.OTHER, _lease.GUARD):
        _lease.write("x", record(ended=dict(TOLD)), writer)
        assert {path.stat().st_ino for path in (run_folder / "lease-x").glob("record*")} == before
        assert {path.stat().st_blocks for path in (run_folder / "lease-x").glob("record*")} == sizes
    assert _lease.read("x") == record(ended=TOLD)


def test_conclude_and_mark_reported(run_folder: Path) -> None:
    put(run_folder, "x", record())
    _lease.mark_reported("x")
    assert _lease.read("x") == record()
    _lease.conclude("x", True, "deadline", 1.5)
    assert _lease.read("x") == record(ended=TOLD)
    _lease.mark_reported("x")
    assert _lease.read("x") == record(ended={**TOLD, "reported": True})


def test_how_it_ended_is_said_once(run_folder: Path) -> None:
    """A guard that was stopped past its deadline comes after its second process."""
    put(run_folder, "x", record())
    _lease.conclude("x", False, "deadline", 1.5, writer=_lease.SECOND)
    _lease.mark_reported("x")
    _lease.conclude("x", True, "other", 7.0, writer=_lease.GUARD)
    said = {**TOLD, "held": False, "reported": True}
    assert _lease.read("x") == record(ended=said)


def test_two_that_say_how_it_ended_at_once(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(run_folder, "x", None)
    _lease.write("x", record(), _lease.GUARD)
    exchange = _ioctl.exchange

    def overtaken(path: str, other: str) -> None:
        """Before the one replaces the record, the other does all of it."""
        monkeypatch.setattr(_lease, "exchange", exchange)
        _lease.conclude("x", True, "deadline", 1.5, writer=_lease.GUARD)
        exchange(path, other)

    monkeypatch.setattr(_lease, "exchange", overtaken)
    _lease.conclude("x", True, "deadline", 1.5, writer=_lease.SECOND)
    assert _lease.read("x") == record(ended=TOLD)


def test_a_record_that_was_replaced_while_it_was_read(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(run_folder, "x", b"half of th")
    loads = json.loads

    def late(content: bytes) -> Any:
        (run_folder / "lease-x" / "record").write_text(json.dumps(record()))
        return loads(content)

    monkeypatch.setattr(json, "loads", late)
    assert _lease.read("x") == record()


def test_conclude_without_a_record_still_says_how_it_ended(run_folder: Path) -> None:
    put(run_folder, "x", b"garbage")
    _lease.conclude("x", False, "guard_lost", None)
    found = _lease.read("x")
    assert found is not None
    assert found["ended"]["thawed_by"] == "guard_lost"
    assert found["filesystems"] == []


def test_mark_reported_of_nothing_makes_nothing(run_folder: Path) -> None:
    _lease.mark_reported("x")
    put(run_folder, "y", b"garbage")
    _lease.mark_reported("y")
    assert (run_folder / "lease-y" / "record").read_bytes() == b"garbage"


def test_names(run_folder: Path) -> None:
    for name in ("b", "a", ".."):
        put(run_folder, name, None)
    (run_folder / "r-0123").touch()
    (run_folder / "guard-0123.pyz").touch()
    (run_folder / "lease-").mkdir()
    (run_folder / "lease-a b").mkdir()
    os.mkdir(os.fsencode(run_folder) + b"/lease-\xff")
    assert _lease.names() == ["..", "a", "b"]


def test_names_where_nothing_was_ever_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lease, "RUN", "/no/such/folder")
    assert _lease.names() == []


def test_forget(run_folder: Path) -> None:
    left = put(run_folder, "x", record())
    for entry in (_lease.GUARD, _lease.SECOND, _lease.OTHER, "socket", "lock"):
        (left / entry).touch()
    _lease.forget("x")
    assert os.listdir(run_folder) == []
    _lease.forget("x")


def test_forget_leaves_what_is_not_its_own(run_folder: Path) -> None:
    left = put(run_folder, "x", record())
    (left / "notes").touch()
    _lease.forget("x")
    assert os.listdir(left) == ["notes"]


@pytest.mark.parametrize(
    ("content", "days", "claimed", "stays"),
    [
        (record(ended=dict(TOLD)), 2, False, False),
        (b"garbage", 2, False, False),
        (None, 2, False, False),
        (record(ended=dict(TOLD)), 0, False, True),
        (b"garbage", 0, False, True),
        # Not ended: what is frozen may still be so, however long ago.
        (record(), 2, False, True),
        (record(ended=dict(TOLD)), 2, True, True),
    ],
)
def test_forget_old(run_folder: Path, content: Any, days: int, claimed: bool, stays: bool) -> None:
    fd = _lease.claim("x") if claimed else None
    if not claimed:
        put(run_folder, "x", content)
    elif content:
        _lease.write("x", content)
    then = time.time() - days * 86400 - 60
    os.utime(run_folder / "lease-x", (then, then))
    _lease.forget_old()
    assert _lease.names() == (["x"] if stays else [])
    if fd is not None:
        os.close(fd)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the list of what would have been mounted: nothing is, whoever runs this."""
    made: list[str] = []
    monkeypatch.setattr(_lease, "mount_tmpfs", lambda path, _options: made.append(path))
    return made


def stored_on(fstype: str) -> Callable[[str], Place]:
    """A ``locate`` that finds everything on a filesystem of this type."""
    return lambda path: Place(path, os.open("/", os.O_PATH), True, Mount(fstype=fstype))


def test_prepare_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: list[str]) -> None:
    folder = tmp_path / "quiesce"
    monkeypatch.setattr(_lease, "RUN", str(folder))
    monkeypatch.setattr(_lease, "locate", stored_on("tmpfs"))
    of_root = {"st_uid": 0, "st_mode": 0o040700}
    monkeypatch.setattr(os, "lstat", lambda _path: SimpleNamespace(**of_root))
    _lease.prepare_run()
    assert folder.is_dir()
    _lease.prepare_run()
    for wrong in (
        {"st_uid": 1},
        {"st_mode": 0o040750},
        {"st_mode": 0o120700},
        {"st_mode": 0o040701},
    ):
        found = SimpleNamespace(**{**of_root, **wrong})
        monkeypatch.setattr(os, "lstat", lambda _path, found=found: found)
        with pytest.raises(QuiesceError, match="not a folder of root with mode 0700"):
            _lease.prepare_run()
    assert mounted == []


@pytest.mark.parametrize(
    ("fstype", "needed"), [("tmpfs", False), ("ramfs", False), ("ext4", True), ("overlay", True)]
)
def test_prepare_run_is_in_memory(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    mounted: list[str],
    fstype: str,
    needed: bool,
) -> None:
    monkeypatch.setattr(_lease, "locate", stored_on(fstype))
    of_root = SimpleNamespace(st_uid=0, st_mode=0o040700)
    monkeypatch.setattr(os, "lstat", lambda _path: of_root)
    _lease.prepare_run()
    assert mounted == ([str(run_folder)] if needed else [])


def test_prepare_run_where_it_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: list[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(_lease, "RUN", str(tmp_path / "file" / "quiesce"))
    with pytest.raises(QuiesceError, match=r"cannot be made .*nothing was frozen"):
        _lease.prepare_run()
    assert mounted == []
