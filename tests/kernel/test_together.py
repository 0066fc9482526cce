# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several at once: freezers and thawers on one filesystem, mounts that come and go meanwhile."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import locate

from tests.kernel.lab import Filesystem, Lab, run
from tests.kernel.modules import Failed, freeze, state, thaw
from tests.kernel.processes import of_lease, wait_for


def outcome(call: Any, *args: Any, **options: Any) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = call(*args, **options)
    except Failed as failed:
        return failed.result
    return answer


def _gone(lease: str) -> bool:
    return not of_lease(lease)


def test_one_of_two_wins(filesystem: Filesystem) -> None:
    with ThreadPoolExecutor() as pool:
        for _round in range(4):
            calls = [
                pool.submit(outcome, freeze, filesystem, lease=name, timeout=30) for name in "pq"
            ]
            answers = [call.result() for call in calls]
            winners = [name for name, each in zip("pq", answers, strict=True) if each["changed"]]
            assert len(winners) == 1, answers
            (loser,) = [each for each in answers if not each["changed"]]
            assert loser["failed"]
            assert state(filesystem) == "frozen"
            assert thaw(filesystem, lease=winners[0])["held"] is True
            wait_for(lambda: not of_lease("p") and not of_lease("q"), 5)


def test_one_of_two_wins_a_set(lab: Lab) -> None:
    """Also where each could have been the first at some of it."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        kinds = ("ext4", "xfs", "ext4", "xfs")
        members = [stack.enter_context(lab.filesystem(kind)) for kind in kinds]
        for number in range(8):
            calls = {
                name: pool.submit(outcome, freeze, *members, lease=name, timeout=30)
                for name in (f"p{number}", f"q{number}")
            }
            answers = {name: call.result() for name, call in calls.items()}
            winners = [name for name, each in answers.items() if each["changed"]]
            assert len(winners) == 1, answers
            (winner,) = winners
            (loser,) = set(answers) - {winner}
            assert f"lease '{winner}'" in answers[loser]["msg"]
            assert "outside" not in answers[loser]["msg"]
            assert {state(each) for each in members} == {"frozen"}
            assert thaw(*members, lease=winner)["held"] is True
            for name in answers:
                wait_for(functools.partial(_gone, name), 5)


def test_one_name_twice_at_once(filesystem: Filesystem) -> None:
    with ThreadPoolExecutor() as pool:
        for _round in range(4):
            calls = [
                pool.submit(outcome, freeze, filesystem, lease="same", timeout=30)
                for _each in range(2)
            ]
            answers = [call.result() for call in calls]
            assert [each["changed"] for each in answers].count(True) == 1, answers
            assert thaw(filesystem, lease="same")["held"] is True
            wait_for(lambda: not of_lease("same"), 5)


def test_freezers_and_thawers_at_once(filesystem: Filesystem) -> None:
    """At the end nothing is frozen, without anybody's help, and no guard was lost.

    That whoever says held tells the truth is looked at in ``tests/torture/test_many.py``.
    """
    began = time.monotonic()
    changed = threading.Event()

    def going_on() -> bool:
        """For some seconds, and until one has got in between the others, which may take longer."""
        passed = time.monotonic() - began
        return passed < 6 or (passed < 60 and not changed.is_set())

    def play(name: str) -> list[dict[str, Any]]:
        answers = []
        while going_on():
            answers.append(outcome(freeze, filesystem, lease=name, timeout=10))
            if answers[-1]["changed"]:
                changed.set()
            answers.append(outcome(thaw, filesystem, lease=name))
        return answers

    def stranger() -> None:
        while going_on():
            for option, seconds in (("-f", 0.05), ("-u", 0.2)):
                subprocess.run(
                    ["fsfreeze", option, filesystem.mountpoint], check=False, capture_output=True
                )
                time.sleep(seconds)

    with ThreadPoolExecutor() as pool:
        games = [pool.submit(play, name) for name in "ab"]
        pool.submit(stranger).result()
        answers = [answer for game in games for answer in game.result()]
    assert any(answer["changed"] for answer in answers)
    assert not any("guard was killed" in answer.get("msg", "") for answer in answers)
    wait_for(lambda: not of_lease("a") and not of_lease("b"), 12)
    assert state(filesystem) == "thawed"


def test_mounts_that_come_and_go(lab: Lab) -> None:
    """What was located is always what was opened, whichever of the two it was."""
    with lab.filesystem("ext4") as below, lab.filesystem("xfs") as above:
        devices = {str(os.stat(each.mountpoint).st_dev) for each in (below, above)}
        ended = threading.Event()

        def flip() -> None:
            while not ended.is_set():
                run("mount", "--bind", above.mountpoint, below.mountpoint)
                run("umount", "--lazy", below.mountpoint)

        flipping = threading.Thread(target=flip)
        flipping.start()
        seen, refused = set(), []
        try:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                try:
                    place = locate(str(below.mountpoint))
                except QuiesceError as error:
                    refused.append(error.message)
                    continue
                status = os.fstat(place.fd)
                major, minor = os.major(status.st_dev), os.minor(status.st_dev)
                assert place.mount.device == f"{major}:{minor}"
                seen.add(str(status.st_dev))
                os.close(place.fd)
        finally:
            ended.set()
            flipping.join()
        assert seen == devices
        assert all("unmounted while it was looked at" in message for message in refused)


def test_many_leases_at_once(lab: Lab) -> None:
    with (
        lab.filesystem("ext4") as one,
        lab.filesystem("xfs") as two,
        lab.filesystem("btrfs") as three,
    ):
        with ThreadPoolExecutor() as pool:
            made = list(pool.map(lambda each: freeze(each, timeout=30), (one, two, three)))
        assert len({each["lease"]["name"] for each in made}) == 3
        answer = thaw(one, two, three)
        assert answer["changed"]
        assert answer["held"] is True
