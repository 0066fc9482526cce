# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard that holds nothing real: its logic, without processes, filesystems or root."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _ioctl, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._account import Account
from ansible_collections.quiesce.storage.plugins.module_utils._audience import Audience
from ansible_collections.quiesce.storage.plugins.module_utils._board import FROZEN, Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._guard import Guard
from ansible_collections.quiesce.storage.plugins.module_utils._proof import Proof
from ansible_collections.quiesce.storage.plugins.module_utils._reception import Reception
from ansible_collections.quiesce.storage.plugins.module_utils._thaw import Thawer
from ansible_collections.quiesce.storage.plugins.module_utils._wire import Line

LEASE = "unit"
# Descriptors that no process has.
_NOWHERE = 1 << 20


def thaw_says(answer: bool | int) -> bool:
    """What a thaw answers: whether there was a freeze, or this errno."""
    if isinstance(answer, bool):
        return answer
    raise OSError(answer, os.strerror(answer))


class _Family:
    def __init__(self, board: Board) -> None:
        self._board = board
        self.asked_to_end = False

    def stop_freezing(self) -> None:
        self._board.header.stop = 1

    def let_go(self) -> None:
        """There is nobody."""

    def end_stopped_freezer(self) -> None:
        self.asked_to_end = True


class _Standby:
    def keep(self) -> None:
        """There is nobody."""


class Kernel:
    """FITHAW on filesystems that do not exist; ``frozen`` are the numbers of those left."""

    def __init__(self, count: int) -> None:
        self.frozen = set(range(count))
        self.thawed: list[int] = []
        # Errnos with which a thaw of a filesystem is refused.
        self.refuses: dict[int, int] = {}
        # What a thaw of a filesystem waits for.
        self.waits: dict[int, threading.Event] = {}

    def thaw(self, fd: int) -> bool:
        number = fd - _NOWHERE
        if number in self.waits:
            self.waits[number].wait()
        if number in self.refuses:
            raise OSError(self.refuses[number], "refused")
        if number not in self.frozen:
            return False
        self.frozen.discard(number)
        self.thawed.append(number)
        return True


class Holding:
    """A guard that has just frozen its set, and what can be seen of it from outside."""

    def __init__(
        self, count: int, tied: bool = False, timeout: int = 60, levels: Sequence[int] = ()
    ) -> None:
        """``levels``: of each filesystem; 0 where not given."""
        self.kernel = Kernel(count)
        ours, self.client = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.guard = guard = Guard.__new__(Guard)
        sets = [
            {
                "path": f"/srv/{number}",
                "mountpoint": f"/srv/{number}",
                "source": f"/dev/vd{number}",
                "fstype": "xfs",
                "device": f"8:{number}",
                "method": "freeze",
            }
            for number in range(count)
        ]
        self.board = Board(count)
        for row in self.board.rows:
            row.started = now()
            row.done = now()
            row.status = FROZEN
        members = [
            Member(_NOWHERE + n, True, False, level)
            for n, level in enumerate(levels or [0] * count)
        ]
        proof = Proof(self.board, members, [[] for _each in sets], sleep=True)
        proof.begin()
        self._thawer = thawer = Thawer(self.board, members)
        self.account = Account(LEASE, sets, self.board, proof, thawer)
        self._line = Line(ours)
        # Somebody else, who asks.
        theirs, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._asking = Line(theirs)
        own = {
            "_audience": Audience(self._line),
            "_request": {"lease": LEASE, "tied": tied, "freeze_timeout": 30, "flush_timeout": 30},
            "_phase": _lease.HOLDING,
            "_since": now(),
            "_freezer_gone": True,
            "_retry": 0.0,
            "_standby": _Standby(),
            "_wanted": set(),
            "_appointment": None,
            "_sets": sets,
            "_board": self.board,
            "_members": members,
            "_reception": Reception(guard._hear, guard._broken_off),
            "_family": _Family(self.board),
            "_proof": proof,
            "_thawer": thawer,
            "_account": self.account,
        }
        vars(guard).update(own)
        self.account.arm(timeout)
        self.account.note(_lease.HOLDING)

    @property
    def phase(self) -> str:
        """As the guard says."""
        return str(vars(self.guard)["_phase"])

    def ask(self, request: Any) -> dict[str, Any]:
        """What the guard answers to somebody other than its client."""
        return self.guard._hear(request, self._asking)

    def told(self) -> list[dict[str, Any]]:
        """What that somebody was told without asking, since the last look."""
        return _read_all(self._other)

    def events(self) -> list[dict[str, Any]]:
        """The same for the client."""
        return _read_all(self.client)

    def read(self, line: Line) -> None:
        """Have the guard read a connection, as its loop does."""
        reception: Reception = vars(self.guard)["_reception"]
        reception.add(line)
        reception.wait(0.0)

    def hang_up(self) -> None:
        """The client of the freeze goes away."""
        self.client.close()
        self.read(self._line)

    def tick(self) -> None:
        """What the guard does when nothing happens, long enough after the last time."""
        vars(self.guard)["_retry"] = 0.0
        self.guard._tick()

    def finish(self) -> None:
        """What it does after its loop; AssertionError if that would go on."""
        assert self.guard._finished()
        self.account.forget()

    def close(self) -> None:
        """Free its descriptors and threads."""
        self._thawer.close()
        self.client.close()
        self._line.close()
        self._other.close()
        self._asking.close()


def _read_all(connection: socket.socket) -> list[dict[str, Any]]:
    connection.setblocking(False)
    try:
        said = connection.recv(1 << 20)
    except BlockingIOError:
        return []
    return [json.loads(line) for line in said.splitlines()]


@contextlib.contextmanager
def holding(count: int, **options: Any) -> Iterator[Holding]:
    """A guard for a lease of so many filesystems, in the run folder that is set."""
    with pytest.MonkeyPatch.context() as patch:
        fd = _lease.claim(LEASE)
        assert fd is not None
        made = Holding(count, **options)
        patch.setattr(_ioctl, "thaw", made.kernel.thaw)
        try:
            yield made
        finally:
            made.close()
            os.close(fd)
            _lease.forget(LEASE)


def record_of(folder: Path) -> dict[str, Any] | None:
    """The record that the guard has left; None where there is no trace of the lease."""
    found = _lease.read(LEASE)
    assert (found is None) == (not (folder / f"lease-{LEASE}" / "record").exists())
    return found
