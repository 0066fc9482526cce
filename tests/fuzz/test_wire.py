# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever comes over a socket, in whatever pieces: messages, or nothing."""

from __future__ import annotations

import array
import json
import os
import socket
from contextlib import suppress
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._wire import (
    Line,
    WireError,
    encode,
    receive_set,
    send_set,
)
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.strategies import JSON

FINITE = JSON.filter(lambda value: "NaN" not in json.dumps(value))


def read_all(line: Line) -> list[Any]:
    """Everything that a line has to say until it is closed."""
    found: list[Any] = []
    while not line.closed:
        found += line.read()
    return found


@given(st.lists(st.dictionaries(st.text(max_size=9), FINITE, max_size=2), max_size=3), st.data())
def test_messages_in_any_pieces(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    raw = b"".join(encode(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        line, found = Line(ours), []
        with theirs:
            for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
                theirs.sendall(raw[start:end])
                found += line.read()
                assert not line.closed
        found += read_all(line)
    assert found == messages


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"{", b"}", b"\n", b'"op"', b":", b"1", b"\xff"]), max_size=30).map(
        b"".join
    )
)
@example(b"[" * 50_000 + b"\n")
@example(b"9" * 50_000 + b"\n")
def test_garbage(raw: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        line = Line(ours)
        with theirs:
            theirs.sendall(raw)
        found = read_all(line)
    # One answer for each whole line, so that whoever asked knows which is which.
    assert len(found) == raw.count(b"\n")


@given(
    st.dictionaries(st.text(max_size=9), FINITE, max_size=3),
    st.integers(0, 6),
    st.integers(-2, 2),
)
def test_sets(request: dict[str, Any], count: int, more: int) -> None:
    """A set arrives with all of its descriptors, or not at all."""
    sent = max(0, count + more)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    null = os.open("/dev/null", os.O_RDONLY)
    request = {**request, "filesystems": [{"number": number} for number in range(count)]}
    fds: list[int] = []
    with theirs:
        with ours:
            send_set(ours, request, [null] * sent)
        try:
            received, fds = receive_set(theirs)
            assert received == request
            assert len(fds) == count <= sent
            assert all(os.path.samestat(os.fstat(fd), os.fstat(null)) for fd in fds)
        except WireError:
            assert sent < count
    for fd in [null, *fds]:
        os.close(fd)


@given(
    st.binary(max_size=100)
    | st.one_of(JSON, st.fixed_dictionaries({"filesystems": JSON})).map(
        lambda value: json.dumps(value).encode() + b"\n"
    ),
    st.lists(st.booleans(), max_size=4),
)
def test_sets_that_are_none(raw: bytes, tail: list[bool]) -> None:
    """Bytes with and without descriptors after what may be a request: never another error."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    fds: list[int] = []
    with theirs, open("/dev/null", "rb") as null:
        with ours:
            ours.sendall(raw)
            for with_descriptor in tail:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()]))]
                ours.sendmsg([b"F"], rights if with_descriptor else [])
        with suppress(WireError):
            request, fds = receive_set(theirs)
            assert len(request["filesystems"]) == len(fds) <= sum(tail)
    for fd in fds:
        os.close(fd)
