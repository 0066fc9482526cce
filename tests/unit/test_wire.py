# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of JSON and descriptors over real sockets."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _wire
from ansible_collections.quiesce.storage.plugins.module_utils._wire import (
    Line,
    WireError,
    encode,
    receive_set,
    send_set,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Give both ends of a connection."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, two:
        yield one, two


def test_messages_one_by_one_and_together(pair: Pair) -> None:
    line = Line(pair[0])
    assert line.read() == []
    assert not line.closed
    pair[1].sendall(b'{"op": "status"}\n')
    assert line.read() == [{"op": "status"}]
    pair[1].sendall(b'{"a": 1}\n{"b": 2}\n{"c"')
    assert line.read() == [{"a": 1}, {"b": 2}]
    pair[1].sendall(b": 3}\n")
    assert line.read() == [{"c": 3}]
    assert line.read() == []
    assert not line.closed


def test_a_message_byte_by_byte(pair: Pair) -> None:
    line, found = Line(pair[0]), []
    for number in b'{"op": "thaw"}\n':
        pair[1].sendall(bytes([number]))
        found.append(line.read())
    assert found == [[]] * 14 + [[{"op": "thaw"}]]


@pytest.mark.parametrize(
    "nonsense",
    [b"", b"{", b"\xff\xfe", b"{]", b"[" * 60_000, b"9" * 20_000 + b"x", b"\0", b"'op'"],
)
def test_what_is_not_json_is_none_and_does_no_harm(pair: Pair, nonsense: bytes) -> None:
    line = Line(pair[0])
    pair[1].sendall(nonsense + b'\n{"op": "status"}\n')
    assert line.read() == [None, {"op": "status"}]
    assert not line.closed


@pytest.mark.parametrize("last", [b"", b'{"op": "thaw"}'])
def test_the_other_side_hangs_up(pair: Pair, last: bytes) -> None:
    """What has no newline was not said to its end."""
    line = Line(pair[0])
    pair[1].sendall(b'{"a": 1}\n' + last)
    pair[1].close()
    assert line.read() == [{"a": 1}]
    assert line.read() == []
    assert line.closed


def test_a_connection_that_is_reset(pair: Pair) -> None:
    line = Line(pair[0])
    line.send({"unread": 1})
    pair[1].close()
    assert line.read() == []
    assert line.closed


def test_a_message_without_end_is_cut_off(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "_LINE_BYTES", 1000)
    line = Line(pair[0])
    pair[1].sendall(b"x" * 1000)
    assert line.read() == []
    assert not line.closed
    pair[1].sendall(b"x")
    assert line.read() == []
    assert line.closed


def test_a_long_message_comes_whole(pair: Pair) -> None:
    """Longer than any buffer between the two."""
    line, message = Line(pair[0]), {"path": "/" + "x" * 1_000_000}
    sending = threading.Thread(target=pair[1].sendall, args=(encode(message),))
    sending.start()
    found: list[Any] = []
    while not found:
        found = line.read()
    sending.join()
    assert found == [message]


def test_sending(pair: Pair) -> None:
    Line(pair[0]).send({"path": "/\n\udcff ä", "state": None})
    raw = pair[1].recv(1000)
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    assert json.loads(raw) == {"path": "/\n\udcff ä", "state": None}


def test_sending_never_blocks_and_never_raises(pair: Pair) -> None:
    line = Line(pair[0])
    for _each in range(100):
        line.send({"x": "x" * 1_000_000})
    pair[1].close()
    line.send({"x": 1})
    line.close()
    line.send({"x": 1})


def test_looking_for_messages_takes_no_time(pair: Pair) -> None:
    """A guard that looks in vain must not be late for anything else, also after it has sent."""
    line = Line(pair[0])
    line.send({"ok": True})
    began = time.monotonic()
    for _each in range(100):
        assert line.read() == []
    assert time.monotonic() - began < 1


def test_a_message_is_whole_or_the_last(pair: Pair) -> None:
    """Half of one, and the next after it, would not be understood."""
    line = Line(pair[0])
    for number in range(20):
        line.send({"number": number, "x": "x" * 1_000_000})
    received = b""
    pair[1].settimeout(10)
    while piece := pair[1].recv(1 << 20):
        received += piece
    whole = received.split(b"\n")[:-1]
    assert [json.loads(each)["number"] for each in whole] == list(range(len(whole)))
    assert len(whole) < 20


def test_who_is_at_the_other_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Line(pair[0]).of_root() is (os.getuid() == 0)
    for uid in (0, 1, 1000):
        credentials = array.array("i", [4711, uid, 0]).tobytes()
        line = Line(pair[0])
        monkeypatch.setattr(line, "_socket", _Peer(credentials))
        assert line.of_root() is (uid == 0)


class _Peer:
    def __init__(self, credentials: bytes) -> None:
        self._credentials = credentials

    def getsockopt(self, *_names: int) -> bytes:
        return self._credentials


# A set and its descriptors


def pipes(count: int) -> tuple[list[int], list[int]]:
    """Reading and writing ends of pipes."""
    ends = [os.pipe() for _each in range(count)]
    return [end[0] for end in ends], [end[1] for end in ends]


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_a_set_comes_with_its_descriptors_in_their_order(pair: Pair, count: int) -> None:
    reading, writing = pipes(count)
    request = {"lease": "x", "filesystems": [{"device": str(n)} for n in range(count)]}
    send_set(pair[0], request, reading)
    pair[0].sendall(b'{"op": "status"}\n')
    received, fds = receive_set(pair[1])
    assert received == request
    assert len(fds) == count
    for number, (ours, theirs) in enumerate(zip(writing, fds, strict=True)):
        os.write(ours, b"%d" % number)
        assert os.read(theirs, 10) == b"%d" % number
    # What was sent after the set is still there for a Line.
    assert Line(pair[1]).read() == [{"op": "status"}]
    for fd in [*reading, *writing, *fds]:
        os.close(fd)


def test_a_request_in_pieces(pair: Pair) -> None:
    reading, writing = pipes(1)
    raw = encode({"filesystems": [{"path": "/" + "x" * 300_000}]})

    def send() -> None:
        for start in range(0, len(raw), 10_007):
            pair[0].sendall(raw[start : start + 10_007])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", reading))]
        pair[0].sendmsg([b"F"], rights)

    sending = threading.Thread(target=send)
    sending.start()
    request, fds = receive_set(pair[1])
    sending.join()
    assert len(request["filesystems"][0]["path"]) == 300_001
    for fd in [*reading, *writing, *fds]:
        os.close(fd)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", "did not come whole"),
        (b'{"filesystems": []}', "did not come whole"),
        (b"\n", "not understood"),
        (b"{\n", "not understood"),
        (b"[]\n", "not understood"),
        (b"null\n", "not understood"),
        (b"\xff\n", "not understood"),
        (b"{}\n", "not understood"),
        (b'{"filesystems": 1}\n', "not understood"),
        (b'{"filesystems": {"a": 1}}\n', "not understood"),
        (b'{"filesystems": [1]}\n', "descriptor is missing"),
        # A byte that brings no descriptor.
        (b'{"filesystems": [1]}\nF', "descriptor is missing"),
    ],
)
def test_a_set_that_did_not_come_whole(pair: Pair, sent: bytes, message: str) -> None:
    pair[0].sendall(sent)
    pair[0].close()
    with pytest.raises(WireError, match=message):
        receive_set(pair[1])


def test_one_descriptor_too_few(pair: Pair) -> None:
    reading, writing = pipes(1)
    send_set(pair[0], {"filesystems": [{}, {}]}, reading)
    pair[0].close()
    with pytest.raises(WireError, match="descriptor is missing"):
        receive_set(pair[1])
    for fd in [*reading, *writing]:
        os.close(fd)


def test_a_request_without_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "_LINE_BYTES", 10_000)
    pair[0].sendall(b"x" * 100_000)
    pair[1].settimeout(10)
    with pytest.raises(WireError, match="did not come whole"):
        receive_set(pair[1])
