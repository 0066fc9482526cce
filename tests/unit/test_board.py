# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that the guard's processes share, and what is concluded from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _board, _proof
from ansible_collections.quiesce.storage.plugins.module_utils._board import (
    FAILED,
    FROZEN,
    IDLE,
    STARTED,
    Board,
)
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member
from ansible_collections.quiesce.storage.plugins.module_utils._proof import Proof


def test_a_board_is_shared_with_children() -> None:
    board = Board(2)
    pid = os.fork()
    if pid == 0:
        board.rows[1].status = FROZEN
        board.rows[1].woke = 1.5
        board.header.stop = 1
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert (board.rows[1].status, board.rows[1].woke, board.header.stop) == (FROZEN, 1.5, 1)
    assert (board.rows[0].status, board.rows[0].woke) == (IDLE, 0)


@pytest.mark.parametrize(
    ("frozen_at", "rows", "seconds"),
    [
        (0.0, [{}], 0.0),
        (100.0, [{}, {}], 10.0),
        (100.0, [{"thawed": 103.0}, {}], 3.0),
        (100.0, [{"thawed": 103.0}, {"thawed": 102.0}], 2.0),
        # A break counts from when it was noticed, not from our own thaw after it.
        (100.0, [{"broken": 101.0, "thawed": 105.0}, {"thawed": 102.0}], 1.0),
        (100.0, [{"broken": 99.0}], 0.0),
        (100.0, [], 10.0),
    ],
)
def test_frozen_seconds(
    monkeypatch: pytest.MonkeyPatch, frozen_at: float, rows: list[dict[str, float]], seconds: float
) -> None:
    monkeypatch.setattr(_board, "now", lambda: 110.0)
    board = Board(len(rows))
    board.header.frozen_at = frozen_at
    for row, values in zip(board.rows, rows, strict=True):
        for name, value in values.items():
            setattr(row, name, value)
    assert board.frozen_seconds() == pytest.approx(seconds)


def test_what_is_held() -> None:
    board = Board(8)
    for row, (status, released) in zip(
        board.rows,
        [(s, r) for s in (IDLE, STARTED, FROZEN, FAILED) for r in (0, 1)],
        strict=True,
    ):
        row.status, row.released = status, released
    # What was begun may yet become frozen.
    assert board.held() == [2, 4]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"status": FROZEN}], True),
        ([{"status": FROZEN}, {"status": FROZEN}], True),
        ([{"status": FROZEN}, {"status": STARTED}], False),
        ([{"status": FROZEN}, {"status": FROZEN, "broken": 1.0}], False),
        ([{"status": FAILED}], False),
        # Our own thaw breaks nothing.
        ([{"status": FROZEN, "released": 1, "thawed": 1.0}], True),
    ],
)
def test_held(rows: list[dict[str, Any]], expected: bool) -> None:
    board = Board(len(rows))
    for row, values in zip(board.rows, rows, strict=True):
        for name, value in values.items():
            setattr(row, name, value)
    proof = Proof(board, [Member(-1, True, False, 0) for _row in rows], [[] for _row in rows], True)
    assert proof.held() is expected
    proof.possible = False
    assert proof.held() is False


def test_writes_to_a_frozen_filesystems_devices_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = {"8:1": 1000, "8:2": 2000}
    monkeypatch.setattr(
        _proof, "_sectors_written", lambda devices: sum(counters[each] for each in devices)
    )
    board = Board(2)
    for row in board.rows:
        row.status = FROZEN
    members = [Member(-1, True, False, 0), Member(-1, True, False, 0)]
    proof = Proof(board, members, [["8:1"], ["8:1", "8:2"]], True)
    proof.begin()
    assert proof.look() == []
    assert proof.held()
    counters["8:2"] += 8
    assert proof.look() == [1]
    assert not proof.held()
    assert board.held() == [0]
    # Said once.
    assert proof.look() == []


def test_what_cannot_be_seen_stays_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int | None] = [1000]
    monkeypatch.setattr(_proof, "_sectors_written", lambda _devices: written[0])
    board = Board(1)
    board.rows[0].status = FROZEN
    proof = Proof(board, [Member(-1, True, False, 0)], [["8:1"]], True)
    proof.begin()
    written[0] = None
    assert proof.look() == []
    assert board.held() == [0]
    assert not proof.held()


@pytest.mark.parametrize(
    ("woke", "thawed_at", "broken"),
    [(0.0, 5.0, 0.0), (5.1, 5.0, 0.0), (4.9, 5.0, 4.9)],
)
def test_a_witness_that_was_awake_before_our_thaw(
    monkeypatch: pytest.MonkeyPatch, woke: float, thawed_at: float, broken: float
) -> None:
    monkeypatch.setattr(_proof, "_WAKE_SECONDS", 0.01)
    board = Board(1)
    member = Member(-1, True, False, 0)
    member.witness = os.getpid()
    (row,) = board.rows
    row.status, row.released, row.woke = FROZEN, 1, woke
    Proof(board, [member], [[]], True).settle([0], thawed_at)
    assert row.broken == broken


def test_sectors_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open
    text = {"8:1": "1 2 3 4 5 6 700 8 9\n", "8:2": "1 2 3 4 5 6 11", "8:3": "1 2", "8:4": "x " * 9}

    def stat(path: str, **options: Any) -> Any:
        (tmp_path / "stat").write_text(text[path.split("/")[4]])
        return real(tmp_path / "stat", **options)

    monkeypatch.setattr("builtins.open", stat)
    assert _proof._sectors_written([]) == 0
    assert _proof._sectors_written(["8:1"]) == 700
    assert _proof._sectors_written(["8:1", "8:2"]) == 711
    for damaged in ("8:3", "8:4"):
        assert _proof._sectors_written(["8:1", damaged]) is None
    monkeypatch.undo()
    assert _proof._sectors_written(["0:0"]) is None
