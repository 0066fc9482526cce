# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to the guards of this host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from typing import Any, NamedTuple

from ansible_collections.quiesce.storage.plugins.module_utils import _launch, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._wire import encode, send_set

# A guard answers within milliseconds; a thaw waits for a tenth of a second at most per
# level of a stack. One that does not answer by then is stopped, or worse.
_ANSWER_SECONDS = 5.0


class Held(NamedTuple):
    """A lease that has not ended: its record, and what its guard says (None: it is silent)."""

    name: str
    record: dict[str, Any]
    guarded: bool
    status: dict[str, Any] | None

    def holds(self, device: str) -> bool:
        """Whether the superblock ``MAJ:MIN`` is frozen under this lease, as far as it is known."""
        if self.status is None:
            left = any(each["device"] == device for each in _lease.left(self.record))
            return left and not _lease.is_over(self.record, False)
        return any(each["device"] == device and each["ours"] for each in self.status["filesystems"])

    def freezes(self, device: str) -> bool:
        """Whether its guard is freezing the superblock just now."""
        rows = self.status["filesystems"] if self.status is not None else []
        return any(each["device"] == device and each.get("freezing") for each in rows)

    def covers(self, device: str) -> bool:
        """Whether the superblock is of this lease's set, frozen still or not."""
        return any(each["device"] == device for each in self.record["filesystems"])

    def is_of(self, record: dict[str, Any]) -> bool:
        """Whether a record is of this freeze, not of another one under the same name."""
        return bool(record["lease"].get("guard_pid") == self.record["lease"].get("guard_pid"))

    def facts(self) -> dict[str, Any]:
        """Name, times and guard, as modules return them."""
        return dict((self.status or self.record)["lease"])

    @property
    def guard(self) -> str:
        """``alive``, ``silent`` where it does not answer, as when it is stopped, or ``dead``."""
        if not self.guarded:
            return "dead"
        return "alive" if self.status is not None else "silent"

    def will_end(self) -> bool:
        """Whether somebody is there to thaw it at a deadline; a guard that is stopped has a second
        process for that."""
        return self.guarded and bool(self.facts().get("deadline"))

    def sentence(self) -> str:
        """Who holds it, for people."""
        facts = self.facts()
        if self.guard == "dead":
            return "lease %r (its guard is dead, so that nobody thaws it by itself)" % self.name
        until = facts.get("deadline") or "it is thawed (it has no deadline)"
        silent = ", which does not answer" if self.guard == "silent" else ""
        return "lease %r (guard pid %s%s, until %s)" % (
            self.name,
            facts.get("guard_pid"),
            silent,
            until,
        )


class Conversation:
    """A connection to one guard."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._stream = connection.makefile("rb")
        self._last_word: dict[str, Any] | None = None
        # Whether the guard has let somebody wait in vain, and may live.
        self.silent = False

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None when the guard is gone, or silent for that long."""
        self._socket.settimeout(seconds)
        try:
            line = self._stream.readline()
            message = json.loads(line) if line.endswith(b"\n") else None
        except socket.timeout:
            self.silent = True
            return None
        except (OSError, ValueError):
            return None
        if not isinstance(message, dict):
            return None
        if message.get("event") == "ended":
            self._last_word = message
        return message

    def request(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Ask, and wait for the answer; None as in ``receive``.

        From a guard that had ended before, the answer is how it ended: not by this request.
        """
        with contextlib.suppress(OSError):
            self._socket.sendall(encode(message))
        answer = self.receive(_ANSWER_SECONDS)
        while answer is not None and "event" in answer:
            answer = self.receive(_ANSWER_SECONDS)
        last = self._last_word
        if answer is None and last and last.get("thawed_by") == "request":
            return {**last, "held": False, "thawed_by": "other"}
        return answer or last

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the conversation."""
        self._stream.close()
        self._socket.close()


def start(request: dict[str, Any], fds: list[int]) -> Conversation:
    """Start a guard and give it its set. What it says next is for ``receive``."""
    connection = _launch.start(request["lease"], request["freeze_timeout"])
    try:
        send_set(connection, request, fds)
    except OSError as error:
        raise QuiesceError("the guard broke off (%s); nothing was frozen" % error) from error
    return Conversation(connection)


def converse(name: str) -> Conversation | None:
    """Begin to talk to the guard of a lease; None when it is gone."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_SECONDS)
    try:
        connection.connect(os.path.join(_lease.folder(name), "socket"))
    except OSError:
        connection.close()
        return None
    return Conversation(connection)


def ask(name: str, message: dict[str, Any]) -> dict[str, Any] | None:
    """Ask the guard of a lease; None when it is gone or does not answer."""
    conversation = converse(name)
    if conversation is None:
        return None
    try:
        return conversation.request(message)
    finally:
        conversation.close()


def kill(name: str) -> None:
    """Kill the guard of a lease, if it lives; its second process thaws then."""
    record = _lease.read(name)
    if record is not None and _lease.has_guard(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record["lease"]["guard_pid"], signal.SIGKILL)


def held_leases() -> list[Held]:
    """Every lease of this host that is not over, also one whose guard is dead."""
    leases = []
    for name in _lease.names():
        record = _lease.read(name)
        if record is None or _lease.is_over(record, True):
            continue
        guarded = _lease.guarded(name)
        status = ask(name, {"op": "status"}) if guarded else None
        record = _lease.read(name)
        if record is not None and not _lease.is_over(record, guarded):
            leases.append(Held(name, record, guarded, status))
    return leases
