# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything said to a real guard over its socket: the filesystem stays frozen, the guard alive."""

from __future__ import annotations

import json
import posixpath
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.strategies import JSON, cut, like
from tests.kernel.guarded import connected
from tests.kernel.lab import Filesystem, Lab
from tests.kernel.modules import freeze, state, thaw

LEASE = "fuzzed"
# Stands for the path of the filesystem, which is known only when there is one.
PATH = "/held"


def no_thaw(raw: bytes) -> bool:
    """Whether nothing in there asks for a thaw of a filesystem that the guard holds."""
    for line in raw.split(b"\n"):
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(request, dict) and asks(request):
            return False
    return True


def asks(request: dict[str, Any]) -> bool:
    """Whether a request can be one for a thaw of what is held."""
    if request.get("op") == "release":
        paths = request.get("paths")
        named = [each for each in paths if isinstance(each, str)] if isinstance(paths, list) else []
        return {posixpath.normpath(each) for each in named} == {PATH}
    devices = request.get("devices")
    some = devices is None or (isinstance(devices, list) and bool(devices))
    return request.get("op") == "thaw" and some


MESSAGES = st.one_of(
    st.binary(max_size=200),
    st.one_of(
        JSON,
        like({"op": "status"}),
        like({"op": "renew", "timeout": 60}),
        like({"op": "thaw", "devices": []}),
        like({"op": "release", "paths": [PATH, "/srv"]}),
        like({"op": "agree", "at": 1.0}),
        like({"op": "listen"}),
        st.fixed_dictionaries({"op": st.just("renew"), "timeout": JSON}),
    ).flatmap(cut),
)
SAID = st.lists(MESSAGES, max_size=6).map(b"\n".join).filter(no_thaw)


@pytest.fixture(scope="module")
def held(lab: Lab) -> Iterator[tuple[Filesystem, int]]:
    """Give a frozen filesystem, and the process that guards it."""
    with lab.filesystem("ext4") as made:
        answer = freeze(made, lease=LEASE, timeout=3600)
        try:
            yield made, answer["lease"]["guard_pid"]
            assert state(made) == "frozen"
        finally:
            last = thaw(made, lease=LEASE)
        assert last["held"] is True
        assert last["thawed_by"] == "request"


def status(line: socket.socket) -> dict[str, Any]:
    """What the guard says of itself."""
    line.sendall(b'{"op": "status"}\n')
    found: dict[str, Any] = json.loads(line.makefile("rb").readline())
    return found


@given(said=SAID, reads=st.booleans(), hangs_up=st.booleans())
def test_anything_said_to_it(
    held: tuple[Filesystem, int], said: bytes, reads: bool, hangs_up: bool
) -> None:
    said = said.replace(PATH.encode(), str(held[0]).encode())
    with connected(LEASE) as line:
        line.sendall(said)
        if hangs_up:
            line.shutdown(socket.SHUT_WR)
        if reads and hangs_up:
            # An answer to each whole line, and the end.
            answers = line.makefile("rb").readlines()
            assert len(answers) == said.count(b"\n")
            assert all(isinstance(json.loads(answer)["ok"], bool) for answer in answers)
        with connected(LEASE) as other:
            found = status(other)
    assert found["held"] is True
    assert found["phase"] == "held"
    assert found["lease"]["guard_pid"] == held[1]
    # Whatever a renewal said, the freeze has to outlast this test.
    with connected(LEASE) as line:
        line.sendall(b'{"op": "renew", "timeout": 3600}\n')
        assert json.loads(line.makefile("rb").readline())["ok"] is True
