# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard that is stopped (SIGSTOP) and goes on: what it says then is true, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import converse
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel.guarded import LEASE, Frozen, begun
from tests.kernel.lab import MIB, Filesystem, Lab, throttled
from tests.kernel.modules import (
    Failed,
    arguments_of,
    environment,
    freeze,
    parse,
    seconds,
    state,
    thaw,
)
from tests.kernel.processes import children, of_lease, wait_for


def go_on(pid: int) -> None:
    """Continue a process, if it has not ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_guard_stopped_past_its_deadline(filesystem: Filesystem) -> None:
    held = Frozen(filesystem, timeout=3)
    try:
        os.kill(held.guard, signal.SIGSTOP)
        held.thaws_within(3.6)
        assert time.time() > seconds(held.answer["lease"]["deadline"])
    finally:
        os.kill(held.guard, signal.SIGCONT)
        held.close()
        wait_for(lambda: not of_lease(LEASE), 5)
    answer = thaw(filesystem, lease=LEASE)
    assert answer["held"] is False
    assert answer["thawed_by"] in ("deadline", "guard_lost")


def test_a_request_that_waited_for_a_stopped_guard(filesystem: Filesystem) -> None:
    """It is answered after the deadline, at which the second process has thawed."""
    held = Frozen(filesystem, timeout=1)
    conversation = converse(LEASE)
    assert conversation is not None
    try:
        assert conversation.request({"op": "status"})
        os.kill(held.guard, signal.SIGSTOP)
        held.thaws_within(2)
        with socket.socket(fileno=os.dup(conversation.fileno())) as connection:
            connection.sendall(b'{"op": "thaw", "devices": null}\n')
        os.kill(held.guard, signal.SIGCONT)
        answer = conversation.receive(5)
        while answer and "event" in answer:
            answer = conversation.receive(5)
        # It may have ended before it heard the request; the record says how, then.
        if answer is not None:
            assert (answer["held"], answer["thawed_by"]) == (False, "deadline")
    finally:
        go_on(held.guard)
        conversation.close()
        held.close()
        wait_for(lambda: not of_lease(LEASE), 5)
    answer = thaw(filesystem, lease=LEASE)
    assert (answer["held"], answer["thawed_by"]) == (False, "deadline")


def test_a_strangers_freeze_outlasts_the_deadline_of_a_stopped_guard(
    filesystem: Filesystem,
) -> None:
    """It was thawed and frozen by hand; the second process has nothing to thaw any more."""
    held = Frozen(filesystem, timeout=2)
    try:
        os.kill(held.guard, signal.SIGSTOP)
        assert filesystem.thaw()
        with filesystem.frozen(at_most=20):
            time.sleep(3)
            assert held.state() == "frozen"
            os.kill(held.guard, signal.SIGCONT)
            wait_for(lambda: not of_lease(LEASE), 5)
            assert held.state() == "frozen"
    finally:
        go_on(held.guard)
        held.close()
    answer = thaw(filesystem, lease=LEASE)
    assert (answer["held"], answer["thawed_by"]) == (False, "deadline")


@pytest.mark.parametrize("victims", ["freezer", "guard and its children", "freezer, guard killed"])
def test_freezer_stopped_in_its_call(lab: Lab, victims: str) -> None:
    """The kernel completes the freeze, and the one who would say so does not go on."""
    reader = Reader()
    with lab.filesystem("xfs", size=512 * MIB) as one:
        fd = os.open(one.mountpoint, os.O_RDONLY)
        stopped: list[int] = []
        try:
            with throttled(one.device, 4 * MIB):
                (one.mountpoint / "dirty").write_bytes(os.urandom(12 * MIB))
                options = {"path": [one], "state": "frozen", "lease": LEASE, "flush": False}
                call = subprocess.Popen(
                    arguments_of("fsfreeze", False, {**options, "freeze_timeout": 1}),
                    env=environment(),
                    stdout=subprocess.PIPE,
                    text=True,
                )
                wait_for(lambda: reader.state(fd) == "freezing", 10)
                guard = next(pid for pid in of_lease(LEASE) if children(pid))
                # It was started last.
                freezer = children(guard)[-1:]
                stopped = freezer if "freezer" in victims else [guard, *children(guard)]
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
                if "killed" in victims:
                    os.kill(guard, signal.SIGKILL)
            wait_for(lambda: reader.state(fd) == "thawed", 60)
            with pytest.raises(Failed):
                parse(call.communicate(timeout=60)[0])
            assert state(one) == "thawed"
        finally:
            for pid in stopped:
                go_on(pid)
            os.close(fd)
            wait_for(lambda: not of_lease(LEASE), 10)


def test_guard_stopped_is_thawed_on_request(frozen: Frozen) -> None:
    os.kill(frozen.guard, signal.SIGSTOP)
    try:
        answer = thaw(frozen.filesystem, lease=LEASE)
        assert answer["changed"]
        assert answer["held"] is False
        assert frozen.state() == "thawed"
    finally:
        os.kill(frozen.guard, signal.SIGCONT)


@pytest.mark.parametrize("phase", ["flushing", "freezing"])
def test_guard_stopped_before_the_answer(lab: Lab, phase: str) -> None:
    """Who waits for it gives up, and it is killed: without a deadline nobody else would thaw."""
    options: dict[str, Any] = {"flush_timeout": 1, "freeze_timeout": 1, "timeout": 0}
    with lab.filesystem("xfs", size=512 * MIB) as slow:
        with throttled(slow.device, 4 * MIB):
            (slow.mountpoint / "dirty").write_bytes(os.urandom(16 * MIB))
            named = {"path": [slow], "state": "frozen", "lease": LEASE, **options}
            argv = arguments_of("fsfreeze", False, {**named, "flush": phase == "flushing"})
            call = subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, text=True)
            guard = begun(phase)
            os.kill(guard, signal.SIGSTOP)
        try:
            if phase == "freezing":
                wait_for(lambda: state(slow) == "frozen", 20)
            with pytest.raises(Failed, match="did not answer any more"):
                parse(call.communicate(timeout=60)[0])
            assert state(slow) == "thawed"
            wait_for(lambda: not of_lease(LEASE), 5)
        finally:
            go_on(guard)
            slow.thaw()


def test_nothing_is_thawed_for_a_guard_that_has_frozen_nothing(filesystem: Filesystem) -> None:
    """It is stopped while it waits for its time; a stranger's freeze is not touched."""
    at = time.time() + 30
    guard = freeze(filesystem, lease=LEASE, at=str(at))["lease"]["guard_pid"]
    os.kill(guard, signal.SIGSTOP)
    try:
        with filesystem.frozen(at_most=40):
            answer = thaw(filesystem, lease=LEASE)
            assert not answer["changed"]
            assert "has frozen nothing yet" in str(answer["warnings"])
            assert state(filesystem) == "frozen"
    finally:
        os.kill(guard, signal.SIGKILL)
        wait_for(lambda: not of_lease(LEASE), 5)
