# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard: the process on the managed host that freezes, holds, watches and thaws.

It is armed before the first freeze. FIFREEZE itself runs in a child, so that no storage, however
slow, comes between a deadline and its thaw. A second process takes over when the guard is lost. It
speaks JSON, a line each way, over a socket that only root can reach.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import signal
from typing import Any, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._account import Account
from ansible_collections.quiesce.storage.plugins.module_utils._appointment import (
    FLUSH,
    FORGOTTEN,
    FREEZE,
    LATE,
    Appointment,
    same,
)
from ansible_collections.quiesce.storage.plugins.module_utils._audience import Audience
from ansible_collections.quiesce.storage.plugins.module_utils._board import Board
from ansible_collections.quiesce.storage.plugins.module_utils._children import Member
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._family import Family
from ansible_collections.quiesce.storage.plugins.module_utils._freezer import DONE, FLUSHED
from ansible_collections.quiesce.storage.plugins.module_utils._process import harden, watch_signals
from ansible_collections.quiesce.storage.plugins.module_utils._proof import POLL_SECONDS, Proof
from ansible_collections.quiesce.storage.plugins.module_utils._reception import Reception
from ansible_collections.quiesce.storage.plugins.module_utils._standby import Standby
from ansible_collections.quiesce.storage.plugins.module_utils._thaw import ANSWER_SECONDS, Thawer
from ansible_collections.quiesce.storage.plugins.module_utils._wire import Line

# While something is held, look at clocks that may have run in suspend this often; and
# try a thaw that the storage refused again.
_TICK_SECONDS = 0.25
# As long as the modules let a deadline be.
_MAX_TIMEOUT = 86400


class Guard:
    """One lease, from its claim to its end."""

    def __init__(self, client: Line, request: dict[str, Any], fds: list[int], lock: int) -> None:
        self._audience = Audience(client)
        self._request = request
        self._phase = _lease.FLUSHING
        self._since = now()
        self._freezer_gone = False
        self._retry = 0.0
        self._sets: list[dict[str, Any]] = request["filesystems"]
        self._board = Board(len(fds))
        self._members = [
            Member(fd, each["directory"], each["remount"], each["level"])
            for fd, each in zip(fds, self._sets)
        ]
        at = request.get("at")
        flush = bool(request["flush_timeout"])
        patience = request["timeout"] or _MAX_TIMEOUT
        self._appointment = Appointment(at, flush, patience) if at is not None else None
        # Rows that are to be thawed before the rest.
        self._wanted: set[int] = set()
        self._reception = Reception(self._hear, self._broken_off)
        self._family = Family(self._board, self._members, request["lease"], lock)
        harden()
        self._proof = Proof(
            self._board,
            self._members,
            [each["devices"] for each in self._sets],
            request["sleep"],
        )
        self._family.start_children(request["sleep"], request["flush_timeout"])
        self._thawer = Thawer(self._board, self._members)
        self._account = Account(
            request["lease"], self._sets, self._board, self._proof, self._thawer
        )
        self._standby = Standby(self._family, self._reception)
        self._reception.register(self._family.report, self._freezer_reports)
        if self._family.bell is not None:
            self._reception.register(self._family.bell, self._bell_rung)
        self._signals = watch_signals(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._reception.register(self._signals, self._signalled)
        self._reception.listen(os.path.join(_lease.folder(request["lease"]), "socket"))
        self._reception.add(client)
        try:
            self._account.note(self._phase)
        except OSError:
            # Without a record nobody would find the lease.
            self._account.conclude("request")
            raise

    def run(self) -> None:
        """Until everything is thawed and said."""
        while not self._finished():
            self._reception.wait(self._patience())
            self._tick()
        self._account.forget()

    def _finished(self) -> bool:
        return self._phase == _lease.ENDED and self._freezer_gone and not self._board.held()

    def _patience(self) -> float:
        if self._phase == _lease.HOLDING and self._proof.polling:
            return POLL_SECONDS
        if self._phase == _lease.ARMED and self._appointment:
            return self._appointment.patience()
        deadline = self._board.header.deadline
        if deadline and self._phase != _lease.ENDED:
            return min(_TICK_SECONDS, max(0.0, deadline - now()))
        return _TICK_SECONDS

    def _tick(self) -> None:
        moment = now()
        limit = self._request["freeze_timeout"]
        self._look()
        if self._phase != _lease.ENDED:
            self._standby.keep()
        flush_limit = self._request["flush_timeout"] + limit
        if self._phase == _lease.ARMED:
            self._keep_appointment()
        elif self._phase == _lease.FLUSHING and self._appointment and self._appointment.left() <= 0:
            self._fail({"reason": "late"})
        elif self._phase == _lease.FLUSHING and moment > self._since + flush_limit:
            self._fail({"reason": "flush_timeout"})
        elif self._phase == _lease.FREEZING and moment > self._since + limit:
            self._fail(
                self._board.refused() or {"reason": "freeze_timeout", "row": self._board.stuck()}
            )
        elif self._phase == _lease.FREEZING and self._board.overdue():
            self._fail(self._board.refused() or {"reason": "deadline", "row": self._board.stuck()})
        elif self._phase == _lease.HOLDING:
            self._keep_deadline()
        if moment >= self._retry:
            self._retry = moment + _TICK_SECONDS
            self._try_again()

    def _try_again(self) -> None:
        """Thaw what the storage has refused to, or what has been frozen late."""
        if self._phase == _lease.HOLDING and self._wanted:
            self._thaw_part(self._wanted, 0.0)
        elif self._phase == _lease.ENDED:
            if not self._freezer_gone:
                self._family.end_stopped_freezer()
            self._thaw(self._board.thawable(self._freezer_gone), 0.0)

    def _keep_deadline(self) -> None:
        if self._phase == _lease.HOLDING and self._board.overdue():
            self._end("deadline")

    def _look(self) -> None:
        # Before and after, the proof has nothing to say: what a call of the kernel's that was
        # given up on has frozen late has no witness, and is ours to thaw all the same.
        if self._phase == _lease.HOLDING and self._proof.look():
            self._note()
            self._audience.tell({"event": "broken"})

    # What happens

    def _freezer_reports(self) -> None:
        word = os.read(self._family.report, 1)
        if word == FLUSHED and self._phase == _lease.FLUSHING and self._appointment:
            self._appointment.flushed(max(row.flush_seconds for row in self._board.rows))
            if self._appointment.at:
                self._account.agree(self._appointment.at)
            self._phase = _lease.ARMED
            self._note()
            self._audience.tell({"event": "armed", **self._status()})
            self._audience.answered()
        elif word == FLUSHED and self._phase == _lease.FLUSHING:
            self._freeze(now())
        elif word == FLUSHED and self._appointment:
            self._appointment.flushed()
        elif word == DONE and self._phase == _lease.FREEZING:
            self._freezing_done()
        elif not word:
            self._reception.unregister(self._family.report)
            self._freezer_gone = True
            if self._phase in _lease.BEFORE:
                self._fail({"reason": "freezer_lost", "row": self._board.stuck()})

    def _keep_appointment(self) -> None:
        appointment = self._appointment
        step = appointment.step() if appointment else LATE
        if step == FLUSH:
            self._family.let_flush()
        elif step == FREEZE and appointment:
            self._freeze(now() + appointment.left())
        elif step in (LATE, FORGOTTEN):
            self._fail({"reason": step})

    def _freeze(self, start: float) -> None:
        """Have the freezer begin, at ``start`` if that is to come."""
        self._since = self._board.header.start = start
        self._account.arm(self._request["timeout"], start)
        self._phase = _lease.FREEZING
        try:
            rival = self._account.announce()
        except OSError:
            # Whoever found the record would believe that nothing had been frozen yet.
            self._fail({"reason": "no_room"})
        else:
            if rival:
                self._fail({"reason": "rival", "rival": rival})
            else:
                self._family.let_freeze()

    def _freezing_done(self) -> None:
        failure = self._flaw()
        if failure:
            self._fail(failure)
        else:
            self._phase = _lease.HOLDING
            self._account.complete()
            self._note()
            if not self._audience.tell({"event": "frozen", **self._status()}):
                # It has ended meanwhile, and nobody would know of the freeze.
                self._end("other")

    def _flaw(self) -> dict[str, Any] | None:
        """Why what the freezer did is no freeze of the whole set; None where it is one."""
        refused = self._board.refused()
        if refused:
            return refused
        # It may have come while we were stopped, or got no processor.
        if self._board.header.ended or self._board.overdue():
            return {"reason": "deadline"}
        self._proof.begin()
        broken = self._proof.look()
        return {"reason": "broken", "row": broken[0]} if broken else None

    def _signalled(self) -> None:
        numbers = os.read(self._signals, 4096)
        if signal.SIGCHLD in numbers:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        if {signal.SIGTERM, signal.SIGINT} & set(numbers):
            if self._phase in _lease.BEFORE:
                self._fail({"reason": "terminated"})
            elif self._phase == _lease.HOLDING:
                self._end("guard_lost")

    def _bell_rung(self) -> None:
        """A witness woke; the look that follows every event says which."""
        bell = self._family.bell
        if bell is not None and not os.read(bell, 4096):
            self._reception.unregister(bell)

    def _broken_off(self, line: Line) -> None:
        if not self._audience.leave(line):
            return
        # Who asked for the freeze is no more: nobody would know of it.
        if self._phase in (_lease.FLUSHING, _lease.FREEZING):
            self._fail({"reason": "client_lost"})
        elif self._request["tied"] and self._phase == _lease.HOLDING:
            self._end("other")

    def _hear(self, request: Any, line: Line) -> dict[str, Any]:
        # We may have been stopped past it, and the second process has thawed.
        self._keep_deadline()
        if isinstance(request, dict) and request.get("op") == "listen":
            self._audience.add(line)
            return {"ok": True, **self._status()}
        return self._answer(request)

    def _answer(self, request: Any) -> dict[str, Any]:
        operation = request.get("op") if isinstance(request, dict) else None
        if operation == "status":
            self._look()
            return {"ok": True, **self._status()}
        if operation == "renew" and isinstance(request.get("timeout"), int):
            return self._renew(request["timeout"])
        if operation == "agree" and isinstance(request.get("at"), float):
            return self._agree(request["at"])
        if operation == "release" and isinstance(request.get("paths"), list):
            return self._release(request["paths"])
        devices = request.get("devices") if operation == "thaw" else 0
        if devices is None or isinstance(devices, list):
            return self._thaw_for(devices)
        return {"ok": False, "error": "not understood"}

    def _renew(self, timeout: int) -> dict[str, Any]:
        self._look()
        possible = self._phase == _lease.HOLDING and self._account.held()
        if not possible or not 0 <= timeout <= _MAX_TIMEOUT:
            return {"ok": False, **self._status()}
        self._account.arm(timeout)
        self._note()
        return {"ok": True, **self._status()}

    def _agree(self, at: float) -> dict[str, Any]:
        """Freeze at another time than was agreed; or say that all has been frozen at this one."""
        appointment = self._appointment
        if self._phase == _lease.HOLDING and appointment and same(at, appointment.at):
            self._look()
            proven = self._account.held() and self._proof.possible
            return {"ok": proven, "changed": True, **self._status()}
        if (
            self._phase != _lease.ARMED
            or not appointment
            or not appointment.movable(at, _MAX_TIMEOUT)
        ):
            return {"ok": False, **self._status()}
        changed = appointment.move(at)
        self._account.agree(at)
        self._note()
        return {"ok": True, "changed": changed, **self._status()}

    def _release(self, paths: Sequence[Any]) -> dict[str, Any]:
        """Thaw all of the lease, if these paths are all of it and it is unbroken; else nothing."""
        self._look()
        named = {posixpath.normpath(path) for path in paths if isinstance(path, str)}
        whole = {posixpath.normpath(each["path"]) for each in self._sets}
        if self._phase != _lease.HOLDING or named != whole or not self._account.held():
            return {"ok": False, **self._status()}
        return self._thaw_for(None)

    def _thaw_for(self, devices: Sequence[str] | None) -> dict[str, Any]:
        """Thaw all of the lease, or those of these devices."""
        self._look()
        held, part, told = self._board.held(), False, {}
        wanted = {n for n in held if devices is None or self._sets[n]["device"] in devices}
        if self._phase in _lease.BEFORE:
            self._fail({"reason": "thawed"})
        elif self._phase == _lease.ENDED:
            # That it was held until it was thawed is for who asked for that.
            by = self._account.thawed_by
            told = {"held": False, "thawed_by": "other" if by == "request" else by}
            self._thaw(self._board.thawable(self._freezer_gone))
        elif self._wanted.union(wanted).issuperset(held):
            self._end("request")
        else:
            part = True
            self._thaw_part(wanted)
        status = self._status()
        if part and wanted:
            # What is thawed later was not frozen together with this any more.
            self._account.partial = True
        return {"ok": True, "changed": bool(wanted), **status, **told}

    def _thaw_part(self, numbers: set[int], last: float = ANSWER_SECONDS) -> None:
        """Thaw some of it, and try again what could not be; end once nothing is left."""
        self._wanted.update(numbers)
        self._thaw(sorted(self._wanted.intersection(self._board.held())), last)
        self._note()
        self._wanted.intersection_update(self._board.held())
        if not self._board.held():
            self._end("request")

    # Ending

    def _thaw(self, numbers: Sequence[int], last: float = ANSWER_SECONDS) -> None:
        began = now()
        self._thawer.thaw(numbers, last)
        self._proof.settle(numbers, began)

    def _end(self, why: str) -> None:
        """Thaw what is held and say in the record how it ended."""
        self._family.stop_freezing()
        self._look()
        self._phase = _lease.ENDED
        self._thaw(self._board.thawable(self._freezer_gone))
        if why == "request" and self._board.header.ended:
            # The second process was there before us.
            why = "deadline"
        elif why == "request" and any(row.broken for row in self._board.rows):
            why = "other"
        self._account.conclude(why)
        self._family.let_go()
        self._audience.tell({"event": "ended", **self._status()})

    def _fail(self, failure: dict[str, Any]) -> None:
        """The set could not be frozen: thaw what is, and leave no lease behind."""
        self._family.stop_freezing()
        self._phase = _lease.ENDED
        self._thaw(self._board.thawable(self._freezer_gone))
        # Of a freeze that was agreed, who asked for it learns later.
        later = self._appointment and not self._audience.client and failure["reason"] != "thawed"
        self._account.conclude("other" if later else "request", failure if later else None)
        self._family.let_go()
        self._audience.tell({"event": "failed", "failure": failure, **self._status()})

    # Saying

    def _status(self) -> dict[str, Any]:
        return self._account.status(self._phase)

    def _note(self) -> None:
        with contextlib.suppress(OSError):
            self._account.note(self._phase)
