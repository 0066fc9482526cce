# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard that crashes: who asked is told why, and its second process thaws."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _launch, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import Conversation
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader
from ansible_collections.quiesce.storage.plugins.module_utils._wire import send_set

from tests.kernel.lab import Filesystem, Lab
from tests.kernel.modules import Failed, freeze, state, thaw
from tests.kernel.processes import of_lease, wait_for

LEASE = "crashed"


@pytest.fixture
def one(lab: Lab) -> Iterator[Filesystem]:
    """Give a filesystem of which, at the end, nothing is frozen any more and no guard lives."""
    with lab.filesystem("ext4") as made:
        yield made
        wait_for(lambda: not of_lease(LEASE), 10)
        assert state(made) == "thawed"


def request_for(one: Filesystem) -> dict[str, Any]:
    """What the module asks of a guard."""
    member = {
        "path": str(one),
        "mountpoint": str(one),
        "source": one.device,
        "fstype": one.fstype,
        "device": one.number,
        "method": "freeze",
        "directory": True,
        "remount": False,
        "level": 0,
        "devices": [one.number],
    }
    return {
        "lease": LEASE,
        "timeout": 60,
        "freeze_timeout": 30,
        "flush_timeout": 30,
        "tied": False,
        "at": None,
        "sleep": True,
        "filesystems": [member],
    }


@contextmanager
def asked(one: Filesystem, without: str) -> Iterator[Conversation]:
    """Give a conversation with a guard that is to freeze it, and was not told one thing."""
    request = request_for(one)
    del request[without]
    fd = os.open(one.mountpoint, os.O_RDONLY)
    try:
        connection = _launch.start(LEASE, 30)
        send_set(connection, request, [fd])
    finally:
        os.close(fd)
    conversation = Conversation(connection)
    try:
        yield conversation
    finally:
        conversation.close()


# What it misses before there is another process, with a second one, and with all of them.
@pytest.mark.parametrize("without", ["timeout", "sleep", "freeze_timeout"])
def test_before_the_freeze(one: Filesystem, without: str) -> None:
    with asked(one, without) as conversation:
        said = conversation.receive(30)
        told = {"reason": "crashed", "error": repr(KeyError(without))}
        assert said == {"event": "failed", "failure": told}
        # Its end: nobody waits for more.
        assert conversation.receive(30) is None
        assert not conversation.silent
    wait_for(lambda: not of_lease(LEASE), 10)
    assert freeze(one, lease=LEASE)["changed"]
    assert thaw(one, lease=LEASE)["held"] is True


def test_while_it_holds(one: Filesystem) -> None:
    """It stumbles when its client goes away."""
    reader = Reader()
    fd = os.open(one.mountpoint, os.O_RDONLY)
    try:
        with asked(one, "tied") as conversation:
            frozen = conversation.receive(30)
            assert frozen is not None
            assert frozen["event"] == "frozen"
            assert reader.state(fd) == "frozen"
        wait_for(lambda: reader.state(fd) == "thawed", 5)
    finally:
        os.close(fd)
    wait_for(lambda: not of_lease(LEASE), 10)
    answer = thaw(one, lease=LEASE)
    assert (answer["changed"], answer["held"]) == (False, False)
    assert answer["thawed_by"] == "guard_lost"


def test_the_module_says_why(one: Filesystem) -> None:
    """Somebody has put a folder where the guard's socket is to be."""
    _lease.prepare_run()
    # What is known of an earlier lease of this name is in that folder, too.
    _lease.forget(LEASE)
    in_the_way = Path(_lease.folder(LEASE), "socket")
    in_the_way.mkdir(parents=True)
    try:
        with pytest.raises(Failed, match=r"^the guard failed: .*Is a directory") as failed:
            freeze(one, lease=LEASE)
        assert failed.value.msg.endswith("whatever was frozen of the set has been thawed")
        assert state(one) == "thawed"
    finally:
        in_the_way.rmdir()
    assert freeze(one, lease=LEASE)["changed"]
    assert thaw(one, lease=LEASE)["held"] is True
