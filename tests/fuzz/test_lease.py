# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records and names of leases: whatever is there, it is understood or it is none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import (
    Held,
    held_leases,
)
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.strategies import JSON, cut, like
from tests.unit.records import ENDED, MEMBER

RECORD = {
    "lease": {"name": "x", "deadline": None, "guard_pid": 1},
    "filesystems": [MEMBER],
    "ended": ENDED,
}


def put(folder: Path, raw: bytes) -> None:
    """Put a record there."""
    (folder / "lease-x").mkdir(exist_ok=True)
    (folder / "lease-x" / "record").write_bytes(raw)


def use() -> dict[str, Any] | None:
    """Read the record, and everything in it that its readers rely on."""
    found = _lease.read("x")
    if found is not None:
        assert found["lease"]["name"] == "x"
        assert "8:77" not in {each["device"]: each["path"] for each in found["filesystems"]}
        for each in found["filesystems"]:
            assert isinstance("".join(each[key] for key in MEMBER), str)
        held = Held("x", found, False, None)
        assert held.holds("8:1") is (held.covers("8:1") and not _lease.is_over(found, False))
        assert "'x'" in held.sentence()
        if found.get("ended"):
            assert {"held", "thawed_by", "frozen_seconds", "reported"} <= set(found["ended"])
    return found


RAW = st.binary(max_size=100) | st.one_of(JSON, like(RECORD)).flatmap(cut)


@given(raw=RAW)
@example(raw=b"[" * 100_000)
@example(raw=b'{"lease":' * 100_000)
@example(raw=b"\xff\xfe{\0}\0")
@example(raw=json.dumps({key: RECORD[key] for key in ("lease", "filesystems")}).encode())
def test_a_record_is_understood_or_none(run_folder: Path, raw: bytes) -> None:
    put(run_folder, raw)
    found = use()
    # What is done with the leases of a host goes well with any of them.
    assert [lease.name for lease in held_leases()] == (
        ["x"] if found is not None and not found.get("ended") else []
    )
    _lease.mark_reported("x")
    again = use()
    assert (again is None) == (found is None)
    if again is not None and again.get("ended"):
        assert again["ended"]["reported"] is True
    _lease.conclude("x", False, "other", None)
    last = use()
    assert last is not None
    before = again.get("ended") if again is not None else None
    assert last["ended"]["thawed_by"] == (before["thawed_by"] if before else "other")
    _lease.forget_old()
    assert _lease.names() == ["x"]


@given(name=st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9._-]{0,70}\n?", fullmatch=True))
def test_a_name_is_safe_or_refused(run_folder: Path, name: str) -> None:
    safe = re.fullmatch(r"[A-Za-z0-9._-]+", name, re.ASCII) is not None and len(name) <= 64
    try:
        _lease.check_name(name)
    except QuiesceError:
        assert not safe
        assert _lease.read(name) is None
        return
    assert safe
    folder = Path(_lease.folder(name))
    assert folder.parent == run_folder
    assert folder.name == "lease-" + name
    assert _lease.names() == []
    folder.mkdir()
    assert _lease.names() == [name]
    _lease.forget(name)
    assert _lease.names() == []


@given(entries=st.sets(st.text("abl-e./s\n~ä", min_size=1, max_size=9), max_size=5))
def test_only_leases_are_leases(run_folder: Path, entries: set[str]) -> None:
    names = {entry.replace("/", "_") for entry in entries} - {".", ".."}
    for entry in names:
        (run_folder / entry).touch()
    found = _lease.names()
    assert found == sorted(found)
    assert {"lease-" + name for name in found} == {
        each for each in names if re.fullmatch(r"lease-[A-Za-z0-9._-]{1,64}", each)
    }
    for entry in names:
        (run_folder / entry).unlink()
