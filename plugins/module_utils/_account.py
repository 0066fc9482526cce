# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guard says of its lease: to whoever asks, and in the record."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _lease, _rival
from ansible_collections.quiesce.storage.plugins.module_utils._board import FROZEN, STARTED, Board
from ansible_collections.quiesce.storage.plugins.module_utils._clock import iso, now
from ansible_collections.quiesce.storage.plugins.module_utils._proof import Proof
from ansible_collections.quiesce.storage.plugins.module_utils._thaw import Thawer

_SHOWN = ("path", "mountpoint", "source", "fstype", "device", "method")


class Account:
    """The lease as it stands, and how it ended."""

    def __init__(
        self, name: str, sets: Sequence[dict[str, Any]], board: Board, proof: Proof, thawer: Thawer
    ) -> None:
        """``sets``: the filesystems as the client described them."""
        self._name = name
        self._sets = sets
        self._board = board
        self._proof = proof
        self._thawer = thawer
        self._forgotten = False
        # Some of the set was thawed on request before the rest: no longer of one instant.
        self.partial = False
        self.thawed_by: str | None = None
        self._lease: dict[str, Any] = {
            "name": name,
            "frozen_at": None,
            "deadline": None,
            "timeout": 0,
            "guard_pid": os.getpid(),
        }

    def agree(self, at: float) -> None:
        """Say for when a freeze is agreed (seconds since 1970)."""
        self._lease["at"] = iso(now() + at - time.time())

    def arm(self, timeout: int, start: float = 0.0) -> None:
        """The freeze begins, or is renewed: set the deadline, 0 for none.

        :param start: when it begins, on our clock; now where that is over.
        """
        header, moment = self._board.header, max(now(), start)
        header.deadline = moment + timeout if timeout else 0.0
        if not header.frozen_at:
            header.frozen_at = moment
            # Told once: setting the wall's clock later must not move it.
            self._lease["frozen_at"] = iso(moment)
        self._lease.update(timeout=timeout, deadline=iso(header.deadline))

    def complete(self) -> None:
        """Say since when the whole set is frozen."""
        self._lease["complete_at"] = iso(max(row.done for row in self._board.rows))

    def note(self, phase: str) -> None:
        """Write the record; ``OSError`` where there is no room for it."""
        record = {
            "lease": self._lease,
            "phase": phase,
            "filesystems": [
                {**{key: each[key] for key in _SHOWN}, "released": bool(row.released)}
                for each, row in zip(self._sets, self._board.rows)
            ],
            "ended": None,
        }
        _lease.write(self._name, record, _lease.GUARD)

    def announce(self) -> str | None:
        """Write in the record that all is being frozen, unless another lease freezes some of it.

        :return: that lease. ``OSError`` as of ``note``.
        """
        devices = {each["device"] for each in self._sets}
        return _rival.announce(self._name, devices, lambda: self.note(_lease.FREEZING))

    def held(self) -> bool:
        """Whether the whole set has been frozen without a break until now, or until our thaw."""
        by_us = self.thawed_by in (None, "request")
        by_second = self.thawed_by is None and self._board.header.ended
        return by_us and not by_second and not self.partial and self._proof.held()

    def status(self, phase: str) -> dict[str, Any]:
        """All there is to say."""
        return {
            "lease": self._lease,
            "phase": phase,
            "held": self.held(),
            "proof": self._proof.possible,
            "thawed_by": self.thawed_by,
            "frozen_seconds": self._board.frozen_seconds(),
            "filesystems": [
                {
                    **{key: each[key] for key in _SHOWN},
                    "flush_seconds": row.flush_seconds,
                    "freeze_seconds": row.done - row.started if row.done else None,
                    "pause": self._board.pause(number),
                    "broken": iso(row.broken),
                    "ours": row.status == FROZEN and not row.released,
                    "freezing": row.status == STARTED,
                    "error": None if row.released else self._thawer.errors.get(number),
                }
                for number, (each, row) in enumerate(zip(self._sets, self._board.rows))
            ],
        }

    def conclude(self, thawed_by: str, failure: dict[str, Any] | None = None) -> None:
        """Say in the record how it ended, unless who asked for the end is told so directly.

        :param failure: why the set could not be frozen, where nobody is there to be told.
        """
        self.thawed_by = thawed_by
        self._board.header.ended = 1
        if self._board.held() and "complete_at" in self._lease:
            # What is stuck stays ours, and what is thawed may be frozen by others from now on.
            with contextlib.suppress(OSError):
                self.note(_lease.ENDED)
        if thawed_by == "request":
            self.forget()
            return
        with contextlib.suppress(OSError):
            _lease.conclude(
                self._name,
                self.held(),
                thawed_by,
                self._board.frozen_seconds(),
                failure,
                _lease.GUARD,
            )

    def forget(self) -> None:
        """Leave no trace of a lease, once: its name may be another's as soon as it is gone."""
        if self.thawed_by == "request" and not self._board.held() and not self._forgotten:
            self._forgotten = True
            _lease.forget(self._name)
