# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezes at an agreed time: armed before it, complete after it, never late, never left behind."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import ask

from tests.kernel.lab import MIB, Filesystem, Lab
from tests.kernel.lab.throttle import throttled
from tests.kernel.modules import Failed, call, freeze, info, seconds, state, thaw
from tests.kernel.processes import of_lease, wait_for

LEASE = "agreed"
# Ahead of now, in seconds: a slow machine has told the guard by then, or armed it.
AHEAD = 5.0
LONG_AHEAD = 15.0


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def arm(*paths: Any, at: float, **options: Any) -> dict[str, Any]:
    return freeze(*paths, lease=LEASE, at=iso(at), **options)


def soon(*paths: Any, **options: Any) -> float:
    """Arm a guard, and agree on a time that is near; return that."""
    freeze(*paths, lease=LEASE, at="later", **options)
    at = time.time() + AHEAD
    arm(*paths, at=at, **options)
    return at


def wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def test_armed_then_frozen_then_thawed(filesystem: Filesystem) -> None:
    at = time.time() + LONG_AHEAD
    armed = arm(filesystem, at=at, timeout=30)
    assert armed["changed"]
    assert armed["armed"]
    assert armed["lease"]["frozen_at"] is None
    assert armed["lease"]["deadline"] is None
    assert seconds(armed["lease"]["at"]) == pytest.approx(at, abs=0.001)
    assert [each["state"] for each in armed["filesystems"]] == ["thawed"]
    assert state(filesystem) == "thawed"
    (filesystem.mountpoint / "still").write_text("written")

    wait_until(at)
    frozen = arm(filesystem, at=at, timeout=30)
    assert "armed" not in frozen
    assert [each["state"] for each in frozen["filesystems"]] == ["frozen"]
    assert seconds(frozen["lease"]["frozen_at"]) == pytest.approx(at, abs=0.001)
    assert state(filesystem) == "frozen"
    again = arm(filesystem, at=at, timeout=40)
    assert not again["changed"]
    assert seconds(again["lease"]["deadline"]) > seconds(frozen["lease"]["deadline"])

    thawed = thaw(filesystem, lease=LEASE)
    assert thawed["held"] is True
    (member,) = thawed["filesystems"]
    # What was blocked was not blocked before the time.
    assert member["pause"] <= time.time() - at


def test_another_time_is_agreed(filesystem: Filesystem) -> None:
    first = time.time() + 600
    assert arm(filesystem, at=first)["changed"]
    assert not arm(filesystem, at=first)["changed"]
    at = time.time() + AHEAD
    moved = arm(filesystem, at=at)
    assert moved["changed"]
    assert moved["armed"]
    wait_until(at)
    frozen = arm(filesystem, at=at)
    assert seconds(frozen["lease"]["frozen_at"]) == pytest.approx(at, abs=0.001)
    assert thaw(filesystem, lease=LEASE)["held"] is True


def test_another_time_that_has_passed(filesystem: Filesystem) -> None:
    """It says so at once, and stays armed for the one before."""
    first = time.time() + 600
    arm(filesystem, at=first)
    began = time.monotonic()
    with pytest.raises(Failed, match=r"has passed .* lease 'agreed' is armed for 2"):
        arm(filesystem, at=time.time() - 1)
    assert time.monotonic() - began < 20
    assert not arm(filesystem, at=first)["changed"]
    thaw(filesystem, lease=LEASE)
    freeze(filesystem, lease=LEASE, at="later")
    with pytest.raises(Failed, match="is armed for none yet"):
        arm(filesystem, at=time.time() - 1)
    thaw(filesystem, lease=LEASE)


def test_a_time_is_agreed_on_later(filesystem: Filesystem) -> None:
    armed = freeze(filesystem, lease=LEASE, at="later")
    assert armed["changed"]
    assert armed["armed"]
    assert "at" not in armed["lease"]
    assert not freeze(filesystem, lease=LEASE, at="later")["changed"]
    at = time.time() + AHEAD
    assert arm(filesystem, at=at)["changed"]
    # Near enough to wait for it.
    wait_until(at - 1)
    frozen = arm(filesystem, at=at)
    assert [each["state"] for each in frozen["filesystems"]] == ["frozen"]
    assert seconds(frozen["lease"]["complete_at"]) >= at
    assert thaw(filesystem, lease=LEASE)["held"] is True


def test_the_guard_itself_says_that_all_is_frozen(filesystem: Filesystem) -> None:
    """What a controller learns without a module, for as long as it is true."""
    at = soon(filesystem)

    def says(moment: float) -> bool:
        said = ask(LEASE, {"op": "agree", "at": moment})
        assert said is not None
        return bool(said["ok"] and said["phase"] == "held")

    assert not says(at)
    wait_until(at)
    wait_for(lambda: says(at), 10)
    assert not says(at + 60)
    filesystem.thaw()
    assert not says(at)
    thaw(filesystem, lease=LEASE)


def test_no_time_is_agreed_on(filesystem: Filesystem) -> None:
    freeze(filesystem, lease=LEASE, at="later", timeout=2)
    wait_for(lambda: not of_lease(LEASE), 10)
    assert state(filesystem) == "thawed"
    with pytest.raises(Failed, match=r"no time to freeze .* was agreed on within 2 s"):
        arm(filesystem, at=time.time() - 1, timeout=2)


def test_nobody_comes_back(filesystem: Filesystem) -> None:
    arm(filesystem, at=time.time() + LONG_AHEAD, timeout=2)
    wait_for(lambda: state(filesystem) == "frozen", LONG_AHEAD + 2)
    wait_for(lambda: state(filesystem) == "thawed", 6)
    ended = thaw(filesystem, lease=LEASE)
    assert ended["held"] is False
    assert ended["thawed_by"] == "deadline"


def test_a_thaw_disarms(filesystem: Filesystem) -> None:
    at = soon(filesystem)
    assert not thaw(filesystem, lease=LEASE)["changed"]
    wait_for(lambda: not of_lease(LEASE), 5)
    wait_until(at + 0.5)
    assert state(filesystem) == "thawed"
    with pytest.raises(Failed, match="no guard is armed"):
        arm(filesystem, at=at)


def test_never_late(filesystem: Filesystem) -> None:
    with pytest.raises(Failed, match="has passed by the clock of this host"):
        arm(filesystem, at=time.time() - 1)
    assert state(filesystem) == "thawed"
    assert not of_lease(LEASE)


def test_a_flush_that_takes_too_long(lab: Lab) -> None:
    with lab.filesystem("ext4", size=512 * MIB) as slow, throttled(slow.device, 4 * MIB):
        (slow.mountpoint / "dirty").write_bytes(os.urandom(32 * MIB))
        with pytest.raises(Failed, match="the flush took too long"):
            arm(slow, at=time.time() + 3)
        assert state(slow) == "thawed"
    wait_for(lambda: not of_lease(LEASE), 30)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_guard_that_is_killed_while_armed(filesystem: Filesystem, number: int) -> None:
    armed = freeze(filesystem, lease=LEASE, at="later")
    at = time.time() + AHEAD
    os.kill(armed["lease"]["guard_pid"], number)
    wait_for(lambda: not of_lease(LEASE), 5)
    wait_until(at + 0.5)
    assert state(filesystem) == "thawed"
    with pytest.raises(Failed, match="SIGTERM" if number == signal.SIGTERM else "no guard"):
        arm(filesystem, at=at)


def test_a_set(lab: Lab) -> None:
    with lab.filesystem("ext4") as one, lab.filesystem("xfs") as two:
        at = soon(one, two)
        with pytest.raises(Failed, match="is not of its set"), lab.filesystem("ext4") as three:
            arm(one, three, at=at)
        wait_until(at)
        frozen = arm(one, two, at=at)
        assert [each["state"] for each in frozen["filesystems"]] == ["frozen", "frozen"]
        thawed = thaw(one, two, lease=LEASE)
        assert thawed["held"] is True


def test_somebody_else_freezes_meanwhile(filesystem: Filesystem) -> None:
    at = soon(filesystem)
    with filesystem.frozen(at_most=20):
        wait_until(at + 0.2)
        with pytest.raises(Failed, match="could not be frozen: it is held by"):
            arm(filesystem, at=at)
    assert state(filesystem) == "thawed"


def test_check_mode(filesystem: Filesystem) -> None:
    at = time.time() + AHEAD
    assert freeze(filesystem, lease=LEASE, at=iso(at), check=True)["changed"]
    assert not of_lease(LEASE)
    arm(filesystem, at=at)
    assert not freeze(filesystem, lease=LEASE, at=iso(at), check=True)["changed"]
    assert freeze(filesystem, lease=LEASE, at=iso(at + 60), check=True)["changed"]
    wait_until(at)
    assert seconds(arm(filesystem, at=at)["lease"]["frozen_at"]) == pytest.approx(at, abs=0.001)
    thaw(filesystem, lease=LEASE)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("soon", "is not a time such as"),
        ("2026-11-21T01:05:55", "another time on every host"),
        ("2999-01-01T00:00:00Z", "more than a day ahead"),
        ("1e400", "is not a time such as"),
        ("99999999999", "more than a day ahead"),
    ],
)
def test_times_that_are_none(filesystem: Filesystem, at: str, message: str) -> None:
    with pytest.raises(Failed, match=message):
        freeze(filesystem, lease=LEASE, at=at)
    assert info(filesystem)[0]["lease"] is None


def test_a_lease_is_wanted(filesystem: Filesystem) -> None:
    with pytest.raises(Failed, match="at needs a lease"):
        call("fsfreeze", path=[filesystem], state="frozen", at=iso(time.time() + 60))
