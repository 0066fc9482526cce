# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezes, leases and strangers in every order: nothing stays frozen, and the answers are true."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._unfreeze import Thaw

from tests.kernel import modules
from tests.kernel.lab import Filesystem, Lab
from tests.kernel.modules import Failed, freeze, info, state, thaw
from tests.kernel.processes import of_lease, wait_for


def seconds_between(first: str, second: str) -> float:
    """Between two times that a module returned."""
    ends = [datetime.fromisoformat(each.replace("Z", "+00:00")) for each in (first, second)]
    return (ends[1] - ends[0]).total_seconds()


def test_freeze_and_thaw(filesystem: Filesystem) -> None:
    frozen = freeze(filesystem, lease="one", timeout=30)
    assert frozen["changed"]
    (member,) = frozen["filesystems"]
    assert (member["before"], member["state"]) == ("thawed", "frozen")
    assert member["mountpoint"] == str(filesystem)
    assert member["source"] == filesystem.device
    assert member["fstype"] == filesystem.fstype
    assert member["flush_seconds"] >= 0
    assert member["freeze_seconds"] > 0
    lease = frozen["lease"]
    assert lease["name"] == "one"
    assert lease["timeout"] == 30
    assert seconds_between(lease["frozen_at"], lease["deadline"]) == pytest.approx(30, abs=0.001)
    os.kill(lease["guard_pid"], 0)
    assert state(filesystem) == "frozen"

    thawed = thaw(filesystem, lease="one")
    assert thawed["changed"]
    assert thawed["held"] is True
    assert thawed["thawed_by"] == "request"
    assert thawed["frozen_seconds"] > 0
    assert thawed["lease"]["name"] == "one"
    assert state(filesystem) == "thawed"


def test_twice(filesystem: Filesystem) -> None:
    first = freeze(filesystem, lease="twice", timeout=30)
    time.sleep(0.2)
    second = freeze(filesystem, lease="twice", timeout=40)
    assert not second["changed"]
    assert second["lease"]["guard_pid"] == first["lease"]["guard_pid"]
    assert second["lease"]["frozen_at"] == first["lease"]["frozen_at"]
    assert seconds_between(first["lease"]["deadline"], second["lease"]["deadline"]) > 10
    assert thaw(filesystem, lease="twice")["held"] is True
    again = thaw(filesystem, lease="twice")
    assert not again["changed"]
    assert again["held"] is None
    assert again["thawed_by"] is None


def test_check_mode_touches_nothing(filesystem: Filesystem) -> None:
    def leases() -> list[str]:
        return sorted(os.listdir("/run/quiesce")) if os.path.isdir("/run/quiesce") else []

    before = leases()
    predicted = freeze(filesystem, check=True)
    assert predicted["changed"]
    assert predicted["diff"]["before"].endswith(": thawed\n")
    assert predicted["diff"]["after"].endswith(": frozen\n")
    assert state(filesystem) == "thawed"
    assert leases() == before
    assert not thaw(filesystem, check=True)["changed"]

    freeze(filesystem, lease="c")
    try:
        assert not freeze(filesystem, lease="c", check=True)["changed"]
        assert thaw(filesystem, lease="c", check=True)["changed"]
        assert thaw(filesystem, check=True)["changed"]
        assert not thaw(filesystem, lease="other", check=True)["changed"]
        assert state(filesystem) == "frozen"
    finally:
        assert thaw(filesystem, lease="c")["held"] is True


def test_two_leases_on_one_filesystem(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="first")
    with pytest.raises(Failed, match=r"lease 'first'.*or wait for its deadline$") as refused:
        freeze(filesystem, lease="second")
    assert refused.value.result["changed"] is False
    warned = freeze(filesystem)
    assert not warned["changed"]
    assert warned["lease"]["name"] == "first"
    assert not thaw(filesystem, lease="second")["changed"]
    assert state(filesystem) == "frozen"
    assert thaw(filesystem, lease="first")["held"] is True


def test_deadline_thaws_in_time(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="late", timeout=1)
    time.sleep(1.2)
    assert state(filesystem) == "thawed"
    for _again in range(2):
        late = thaw(filesystem, lease="late")
        assert not late["changed"]
        assert late["held"] is False
        assert late["thawed_by"] == "deadline"
        assert late["frozen_seconds"] == pytest.approx(1, abs=0.5)


def test_deadline_is_told_once_to_who_names_no_lease(filesystem: Filesystem) -> None:
    freeze(filesystem, timeout=1)
    time.sleep(1.3)
    assert thaw(filesystem)["thawed_by"] == "deadline"
    assert thaw(filesystem)["thawed_by"] is None


def test_renewed_lease_outlives_its_first_deadline(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="r", timeout=1)
    freeze(filesystem, lease="r", timeout=20)
    time.sleep(1.2)
    assert state(filesystem) == "frozen"
    renewed = freeze(filesystem, lease="r", timeout=0)
    assert renewed["lease"]["deadline"] is None
    assert thaw(filesystem, lease="r")["held"] is True


def test_foreign_freeze_before(filesystem: Filesystem) -> None:
    with filesystem.frozen():
        answer = freeze(filesystem)
        assert not answer["changed"]
        assert answer["lease"] is None
        with pytest.raises(Failed, match=r"outside of this collection.*\(state=thawed\)$"):
            freeze(filesystem, lease="mine")
        assert not thaw(filesystem, lease="mine")["changed"]
        assert state(filesystem) == "frozen"
        answer = thaw(filesystem)
        assert answer["changed"]
        assert answer["held"] is None


def test_foreign_thaw_during(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="mine")
    assert filesystem.thaw()
    with pytest.raises(Failed, match="thawed by somebody else"):
        freeze(filesystem, lease="mine")
    answer = thaw(filesystem, lease="mine")
    assert not answer["changed"]
    assert answer["held"] is False
    assert answer["thawed_by"] == "other"


def test_foreign_thaw_and_freeze_during(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="mine")
    assert filesystem.thaw()
    with filesystem.frozen():
        answer = thaw(filesystem, lease="mine")
        assert answer["held"] is False
        assert answer["thawed_by"] == "other"
        # It is a stranger's freeze now, and not ours to end.
        assert state(filesystem) == "frozen"


def test_fastest_thaw_and_freeze_is_noticed(filesystem: Filesystem) -> None:
    import fcntl

    fd = os.open(filesystem.mountpoint, os.O_RDONLY)
    try:
        for _each in range(20):
            freeze(filesystem, lease="fast")
            fcntl.ioctl(fd, 0xC0045878, 0)
            fcntl.ioctl(fd, 0xC0045877, 0)
            answer = thaw(filesystem, lease="fast")
            filesystem.thaw()
            assert answer["held"] is False
    finally:
        os.close(fd)
        filesystem.thaw()


def test_thaw_without_a_lease_takes_whatever_is_frozen(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="named")
    answer = thaw(filesystem)
    assert answer["changed"]
    assert answer["held"] is True
    assert answer["lease"]["name"] == "named"
    freeze(filesystem)
    answer = thaw(filesystem)
    assert answer["held"] is True


def test_one_of_a_set_cannot_be_frozen(lab: Lab) -> None:
    with lab.filesystem("ext4") as first, lab.filesystem("xfs") as second:
        with pytest.raises(Failed, match=r"/dev/shm.*tmpfs"):
            freeze(first, "/dev/shm", second, lease="set")
        with second.frozen(), pytest.raises(Failed, match=str(second)):
            freeze(first, second, lease="set")
        assert state(first) == state(second) == "thawed"
        skipping = freeze(first, "/dev/shm", second, lease="set", unsupported="skip")
        assert [each["mountpoint"] for each in skipping["filesystems"]] == [str(first), str(second)]
        assert [each["path"] for each in skipping["left_out"]] == ["/dev/shm"]
        assert thaw(first, second, lease="set")["held"] is True


def test_part_of_a_lease(lab: Lab) -> None:
    with lab.filesystem("ext4") as first, lab.filesystem("xfs") as second:
        freeze(first, second, lease="both")
        part = thaw(first, lease="both")
        assert part["held"] is True
        assert (state(first), state(second)) == ("thawed", "frozen")
        with pytest.raises(Failed, match="thawed on request"):
            freeze(first, second, lease="both")
        rest = thaw(first, second, lease="both")
        assert rest["changed"]
        assert rest["held"] is False
        assert state(second) == "thawed"


def test_lease_with_another_set_is_refused(lab: Lab) -> None:
    with lab.filesystem("ext4") as first, lab.filesystem("xfs") as second:
        freeze(first, lease="x")
        with pytest.raises(Failed, match="does not hold"):
            freeze(second, lease="x")
        assert state(second) == "thawed"
        assert thaw(first, lease="x")["held"] is True


def test_info_names_state_evidence_and_lease(filesystem: Filesystem) -> None:
    (found,) = info(filesystem)
    assert (found["state"], found["evidence"], found["lease"]) == ("thawed", "kernel", None)
    assert found["supported"] is True
    freeze(filesystem, lease="seen", timeout=20)
    (found,) = info(filesystem)
    assert (found["state"], found["evidence"]) == ("frozen", "kernel")
    assert found["lease"]["name"] == "seen"
    everything = {each["source"]: each for each in info()}
    assert everything[filesystem.device]["state"] == "frozen"
    thaw(filesystem, lease="seen")


@pytest.mark.parametrize("seed", range(4))
def test_any_interleaving(filesystem: Filesystem, seed: int) -> None:
    """Random steps: the kernel's state is as the answers say, and nothing is left frozen."""
    dice = random.Random(seed)
    # How a lease ended is remembered by its name: no other test may have used it.
    mine = f"a-{uuid.uuid4().hex}"
    holder: str | None = None
    broken = told = False
    for _step in range(14):
        step = dice.choice(["freeze", "freeze other", "check", "thaw", "thaw other", "-f", "-u"])
        if step == "freeze":
            try:
                changed = freeze(filesystem, lease=mine)["changed"]
                assert changed == (holder is None)
                assert not broken
                holder, told = "a", False
            except Failed:
                assert broken or holder not in (None, "a")
        elif step == "freeze other":
            try:
                freeze(filesystem, lease="b")
                assert holder is None
                assert thaw(filesystem, lease="b")["held"] is True
            except Failed:
                assert holder is not None
        elif step == "check":
            assert thaw(filesystem, check=True)["changed"] == (holder is not None)
        elif step == "thaw":
            answer = thaw(filesystem, lease=mine)
            assert answer["changed"] == (holder == "a" and not broken)
            # A lease that was broken is told of until its name is used again.
            told = told or broken
            assert answer["held"] is (False if told else True if holder == "a" else None)
            holder, broken = (None if holder == "a" else holder), False
        elif step == "thaw other":
            assert not thaw(filesystem, lease="c")["changed"]
        elif step == "-f" and holder is None:
            filesystem.freeze()
            holder = "stranger"
        elif step == "-u" and holder is not None:
            assert filesystem.thaw()
            broken = broken or holder == "a"
            holder = None
        assert state(filesystem) == ("thawed" if holder is None else "frozen")
    thaw(filesystem)
    modules.call("fsfreeze", path=[filesystem], state="thawed", lease=mine)
    assert state(filesystem) == "thawed"


@contextmanager
def begun_thaw(filesystem: Filesystem, lease: str) -> Iterator[Thaw]:
    """A thaw that has found the lease held, and has not asked for anything yet."""
    begun = Thaw([str(filesystem)], lease)
    try:
        yield begun
    finally:
        for each in begun.set:
            os.close(each.fd)


def both_thaw(filesystem: Filesystem, between: Callable[[], None]) -> dict[str, Any]:
    """Two thaws of one lease that both find it held; return what the later one says.

    :param between: called when the first has thawed and its guard is gone.
    """
    with begun_thaw(filesystem, "both") as first, begun_thaw(filesystem, "both") as second:
        assert first.thaw()["held"] is True
        wait_for(lambda: not of_lease("both"), 10)
        between()
        answer = second.thaw()
        assert not second.warnings
        return answer


def test_two_thaws_at_once(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="both", timeout=30)
    later = both_thaw(filesystem, lambda: None)
    # It was told to the first one how it ended.
    assert (later["changed"], later["held"], later["thawed_by"]) == (False, None, None)


def test_a_thaw_that_comes_with_the_deadline(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="late", timeout=1)
    with begun_thaw(filesystem, "late") as late:
        wait_for(lambda: not of_lease("late"), 10)
        answer = late.thaw()
    assert (answer["changed"], answer["held"], answer["thawed_by"]) == (False, False, "deadline")
    assert not late.warnings


def test_two_thaws_at_once_and_a_freeze_in_between(filesystem: Filesystem) -> None:
    freeze(filesystem, lease="both", timeout=30)
    again: dict[str, Any] = {}
    later = both_thaw(
        filesystem, lambda: again.update(freeze(filesystem, lease="both", timeout=30))
    )
    assert (later["changed"], later["held"], later["thawed_by"]) == (True, True, "request")
    assert later["lease"]["guard_pid"] == again["lease"]["guard_pid"]
    assert state(filesystem) == "thawed"
