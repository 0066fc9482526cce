# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard on a host that has no room for another second process, or none for a while."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _family, _standby
from ansible_collections.quiesce.storage.plugins.module_utils._family import Family
from ansible_collections.quiesce.storage.plugins.module_utils._reception import Reception
from ansible_collections.quiesce.storage.plugins.module_utils._standby import Standby


def refuse() -> tuple[int, int]:
    """What pipe(2) says to a process that has too many files open."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_its_pipe_is_left_alone_where_there_is_none_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else its number is somebody else's by the next attempt, and that one is closed."""
    family = Family.__new__(Family)
    family.second, write = os.pipe()
    try:
        reception = Reception(lambda _request, _line: {}, lambda _line: None)
        standby = Standby(family, reception)
        os.close(write)
        reception.wait(1.0)
        monkeypatch.setattr(os, "pipe", refuse)
        before = family.second
        standby.keep()
        assert family.second == before
        assert os.read(family.second, 1) == b""
    finally:
        os.close(family.second)


class Host:
    """A host that has no room for another process at first, and its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.room = False
        self.attempts = 0
        # The pipes that processes which were started hold open.
        self.started: list[int] = []

    def fork(self, _body: Callable[[], None], keep: list[int], session: bool) -> int:
        assert session
        self.attempts += 1
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.started.append(os.dup(keep[-1]))
        return 4711


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Give a host on which nothing is started in truth."""
    made = Host()
    monkeypatch.setattr(_family, "fork", made.fork)
    monkeypatch.setattr(_standby, "now", lambda: made.now)
    yield made
    for pipe in made.started:
        os.close(pipe)


def bereaved() -> tuple[Standby, Reception, Family]:
    """Of a guard whose second process ends just now."""
    family = Family.__new__(Family)
    family.second, write = os.pipe()
    own: dict[str, Any] = {"_board": None, "_members": [], "_lease": "x", "_lock": 0, "report": 0}
    vars(family).update(own, _alive_read=0)
    reception = Reception(lambda _request, _line: {}, lambda _line: None)
    standby = Standby(family, reception)
    os.close(write)
    return standby, reception, family


def test_another_is_started_as_soon_as_there_is_room(host: Host) -> None:
    """It is tried again and again, but not with every event; and then that one is watched."""
    standby, reception, family = bereaved()
    try:
        standby.keep()
        assert host.attempts == 0
        reception.wait(1.0)
        for attempts in (1, 2, 3):
            for _event in range(3):
                standby.keep()
                reception.wait(0.0)
            assert host.attempts == attempts
            host.now += 0.25
        host.room = True
        descriptors = len(os.listdir("/proc/self/fd"))
        standby.keep()
        assert (host.attempts, len(host.started)) == (4, 1)
        # The pipe of the last attempt was closed; the one more is the new process's own.
        assert len(os.listdir("/proc/self/fd")) == descriptors + 1
        host.now += 10
        reception.wait(0.0)
        standby.keep()
        assert host.attempts == 4
        os.close(host.started.pop())
        reception.wait(1.0)
        standby.keep()
        assert (host.attempts, len(host.started)) == (5, 1)
    finally:
        os.close(family.second)
