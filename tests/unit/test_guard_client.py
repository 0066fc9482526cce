# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to a guard that says too little, too much, or nothing."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _guard_client, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import (
    Conversation,
    Held,
    ask,
    held_leases,
)

from tests.unit.records import record

LEASE = {"name": "x", "guard_pid": 4711, "deadline": "2026-11-21T01:06:55.000000Z"}
RECORD = record(lease=LEASE)


def held(guarded: bool = True, **status: Any) -> Held:
    """A lease; ``ours`` is what its guard says of 8:1, silent where it is not given."""
    says = None
    if status:
        says = {"lease": LEASE, "filesystems": [{"device": "8:1", **status}]}
    return Held("x", RECORD, guarded, says)


@pytest.mark.parametrize(
    ("lease", "device", "holds"),
    [
        (held(), "8:1", True),
        (held(), "8:2", False),
        (held(ours=True), "8:1", True),
        (held(ours=True), "8:2", False),
        # The guard knows better than the record.
        (held(ours=False), "8:1", False),
    ],
)
def test_who_holds_what(lease: Held, device: str, holds: bool) -> None:
    assert lease.holds(device) is holds
    assert lease.covers(device) is (device == "8:1")


def test_who_freezes_what_just_now() -> None:
    assert held(ours=False, freezing=True).freezes("8:1")
    assert not held(ours=False, freezing=True).freezes("8:2")
    assert not held(ours=True, freezing=False).freezes("8:1")
    assert not held().freezes("8:1")
    # A guard of an earlier version does not say.
    assert not held(ours=True).freezes("8:1")


@pytest.mark.parametrize(
    ("lease", "words"),
    [
        (held(ours=True), ["lease 'x'", "guard pid 4711, until 2026-11-21T01:06:55"]),
        (held(), ["guard pid 4711, which does not answer"]),
        (held(guarded=False), ["its guard is dead"]),
        (Held("x", {**RECORD, "lease": {"name": "x"}}, True, None), ["no deadline"]),
    ],
)
def test_who_holds_it_for_people(lease: Held, words: list[str]) -> None:
    for each in words:
        assert each in lease.sentence()


@pytest.fixture
def talk() -> Iterator[tuple[Conversation, socket.socket]]:
    """Give a conversation, and the guard's end of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    conversation = Conversation(ours)
    with theirs:
        yield conversation, theirs
    conversation.close()


@pytest.mark.parametrize(
    "said", [b"\n", b"{\n", b"[]\n", b"null\n", b"7\n", b'"ok"\n', b"\xff\n", b'{"ok": true}', b""]
)
def test_what_is_not_understood_is_no_answer(
    talk: tuple[Conversation, socket.socket], said: bytes
) -> None:
    talk[1].sendall(said)
    talk[1].shutdown(socket.SHUT_WR)
    assert talk[0].receive(5) is None


def test_silence_is_no_answer(talk: tuple[Conversation, socket.socket]) -> None:
    assert talk[0].receive(0.02) is None
    talk[1].sendall(b'{"ok"')
    assert talk[0].receive(0.02) is None


def test_events_before_an_answer_are_not_it(talk: tuple[Conversation, socket.socket]) -> None:
    talk[1].sendall(b'{"event": "broken"}\n{"event": "other"}\n{"ok": true}\n')
    assert talk[0].request({"op": "status"}) == {"ok": True}
    assert json.loads(talk[1].recv(100)) == {"op": "status"}


def test_the_last_word_of_a_guard_that_has_ended_is_the_answer(
    talk: tuple[Conversation, socket.socket],
) -> None:
    talk[1].sendall(b'{"event": "ended", "held": false, "thawed_by": "deadline"}\n')
    talk[1].close()
    answer = talk[0].request({"op": "thaw"})
    assert answer == {"event": "ended", "held": False, "thawed_by": "deadline"}


def test_what_was_thawed_on_request_before_was_not_held_until_this_one(
    talk: tuple[Conversation, socket.socket],
) -> None:
    """Another controller has thawed it while the snapshot was still being taken."""
    talk[1].sendall(b'{"event": "ended", "held": true, "thawed_by": "request"}\n')
    talk[1].close()
    answer = talk[0].request({"op": "thaw"})
    assert answer == {"event": "ended", "held": False, "thawed_by": "other"}


def test_a_guard_that_is_gone_has_no_answer(talk: tuple[Conversation, socket.socket]) -> None:
    talk[1].sendall(b'{"event": "broken"}\n')
    talk[1].close()
    assert talk[0].request({"op": "thaw"}) is None


Serve = Callable[..., None]


@pytest.fixture
def serve(run_folder: Path) -> Iterator[Serve]:
    """Give a function that puts a lease there, with a guard that answers every line alike."""
    stop: list[Callable[[], None]] = []

    def make(name: str, answer: bytes | None, record: dict[str, Any] | None = None) -> None:
        fd = _lease.claim(name)
        assert fd is not None
        _lease.write(name, record or {**RECORD, "lease": {**LEASE, "name": name}})
        stop.append(lambda: os.close(fd))
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(run_folder / f"lease-{name}" / "socket"))
        server.listen()

        def run() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection:
                    while answer is not None and connection.recv(1000):
                        connection.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        stop.append(thread.join)
        stop.append(server.close)
        stop.append(lambda: server.shutdown(socket.SHUT_RDWR))

    yield make
    for each in reversed(stop):
        each()


def test_ask(serve: Serve, run_folder: Path) -> None:
    serve("x", b'{"ok": true}\n')
    assert ask("x", {"op": "status"}) == {"ok": True}
    serve("mute", None)
    assert ask("mute", {"op": "status"}) is None
    assert ask("absent", {"op": "status"}) is None
    (run_folder / "lease-file").mkdir()
    (run_folder / "lease-file" / "socket").touch()
    assert ask("file", {"op": "status"}) is None


def test_ask_a_guard_that_is_stopped(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard_client, "_ANSWER_SECONDS", 0.05)
    (run_folder / "lease-x").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(run_folder / "lease-x" / "socket"))
        server.listen()
        assert ask("x", {"op": "status"}) is None


def test_the_leases_of_a_host(serve: Serve, run_folder: Path) -> None:
    serve("answers", b'{"ok": true, "lease": {}, "filesystems": []}\n')
    serve("mute", None)
    ended = {"held": True, "thawed_by": "deadline", "frozen_seconds": 1.0, "reported": False}
    serve("ended", None, {**RECORD, "lease": {"name": "ended"}, "ended": ended})
    for name, text in (("dead", json.dumps({**RECORD, "lease": {"name": "dead"}})), ("odd", "{")):
        (run_folder / f"lease-{name}").mkdir()
        (run_folder / f"lease-{name}" / "record").write_text(text)
    (run_folder / "lease-empty").mkdir()
    found = {each.name: (each.guarded, each.status is not None) for each in held_leases()}
    assert found == {"answers": (True, True), "mute": (True, False), "dead": (False, False)}
