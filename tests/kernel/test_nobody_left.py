# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All processes of a guard are killed at once, or somebody believes that they were.

Who thaws then has only the record to go by, and must take nothing from anybody else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._lease import read

from tests.kernel.lab import MIB, Filesystem, Lab, run, throttled
from tests.kernel.modules import Failed, arguments_of, environment, freeze, info, parse, state, thaw
from tests.kernel.processes import command, kill_together, of_lease, wait_for

LEASE = "left"


def run_after(bundle: str) -> None:
    """Run what systemd runs when the unit of a guard has ended."""
    argv = [sys.executable, "-I", "-S", "-B", bundle, "after", LEASE]
    subprocess.run(argv, check=True, timeout=30)


def bundle_of(pid: int) -> str:
    """The guard's own copy of its code."""
    return next(word for word in command(pid).split() if word.endswith(".pyz"))


def test_a_unit_that_ends_late_leaves_the_guard_alone(lab: Lab) -> None:
    """Its start had been given up, the guard was started without it, and PID 1 starts it later."""
    with lab.filesystem("ext4") as one:
        guard = freeze(one, lease=LEASE)["lease"]["guard_pid"]
        try:
            run_after(bundle_of(guard))
            assert state(one) == "frozen"
        finally:
            answer = thaw(one, lease=LEASE)
        assert (answer["held"], answer["thawed_by"]) == (True, "request")


def flushing() -> bool:
    """Whether a guard that lives says so; one before it may have left its record."""
    record = read(LEASE) or {"lease": {}}
    return record.get("phase") == "flushing" and record["lease"]["guard_pid"] in of_lease(LEASE)


@contextmanager
def killed_while_it_flushes(one: Filesystem) -> Iterator[str]:
    """Give the guard's code, once all of a guard that had frozen nothing yet is gone."""
    with throttled(one.device, 4 * MIB):
        (one.mountpoint / "dirty").write_bytes(os.urandom(12 * MIB))
        call = subprocess.Popen(
            arguments_of("fsfreeze", False, {"path": [one], "state": "frozen", "lease": LEASE}),
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_for(flushing, 20)
        bundle = bundle_of(of_lease(LEASE)[0])
        kill_together(of_lease(LEASE))
        with pytest.raises(Failed, match="guard was killed"):
            parse(call.communicate(timeout=30)[0])
    # What was killed in the middle of it goes on with the flush, and no further.
    wait_for(lambda: not of_lease(LEASE), 20)
    assert state(one) == "thawed"
    yield bundle


@pytest.mark.parametrize("who", ["systemd", "the module"])
def test_a_guard_that_had_frozen_nothing_holds_nothing(lab: Lab, who: str) -> None:
    """What somebody else has frozen since then is left alone, and is not said to be its."""
    with lab.filesystem("xfs", size=512 * MIB) as one, killed_while_it_flushes(one) as bundle:
        run("fsfreeze", "--freeze", one.mountpoint)
        try:
            (found,) = info(one)
            assert (found["state"], found["lease"]) == ("frozen", None)
            if who == "systemd":
                run_after(bundle)
            else:
                answer = thaw(one, lease=LEASE)
                assert (answer["changed"], answer["thawed_by"]) == (False, None)
            assert state(one) == "frozen"
        finally:
            run("fsfreeze", "--unfreeze", one.mountpoint)


def test_its_name_can_be_used_again(lab: Lab) -> None:
    with lab.filesystem("xfs", size=512 * MIB) as one, killed_while_it_flushes(one):
        assert freeze(one, lease=LEASE)["changed"]
        assert thaw(one, lease=LEASE)["held"] is True


def test_what_was_thawed_before_is_left_to_who_has_frozen_it_since(lab: Lab) -> None:
    """A lease that has lost a part of its set does not take it from another."""
    with lab.filesystem("ext4") as one, lab.filesystem("xfs") as two:
        guard = freeze(one, two, lease=LEASE)["lease"]["guard_pid"]
        bundle = bundle_of(guard)
        assert thaw(one, lease=LEASE)["changed"]
        freeze(one, lease="other")
        try:
            kill_together(of_lease(LEASE))
            wait_for(lambda: not of_lease(LEASE), 5)
            run_after(bundle)
            assert (state(one), state(two)) == ("frozen", "thawed")
        finally:
            answer = thaw(one, lease="other")
        assert (answer["held"], answer["thawed_by"]) == (True, "request")


def test_a_part_of_what_it_has_left_is_thawed(lab: Lab) -> None:
    """The lease stands for the rest of it until that is thawed as well."""
    with lab.filesystem("ext4") as one, lab.filesystem("xfs") as two:
        freeze(one, two, lease=LEASE)
        kill_together(of_lease(LEASE))
        wait_for(lambda: not of_lease(LEASE), 5)
        assert thaw(one, lease=LEASE)["changed"]
        (found,) = info(two)
        assert (state(one), found["state"], found["lease"]["name"]) == ("thawed", "frozen", LEASE)
        answer = thaw(two, lease=LEASE)
        assert (answer["changed"], answer["thawed_by"]) == (True, "guard_lost")
        assert state(two) == "thawed"


def test_what_has_been_unmounted_since_is_thawed(lab: Lab) -> None:
    with lab.filesystem("ext4") as one:
        freeze(one, lease=LEASE)
        kill_together(of_lease(LEASE))
        wait_for(lambda: not of_lease(LEASE), 5)
        # A witness that was killed cannot end before the thaw, and keeps it busy.
        run("umount", "--lazy", one.mountpoint)
        answer = thaw(one.mountpoint, lease=LEASE)
        told = {each["device"]: each["state"] for each in answer["filesystems"]}
        assert (answer["changed"], answer["thawed_by"]) == (True, "guard_lost")
        assert set(told.values()) == {"thawed"}
        # Were it frozen still, it would be gone with nobody to thaw it.
        run("mount", one.device, one.mountpoint)
        assert state(one) == "thawed"


def test_what_was_made_read_only_can_be_written_to_again(tmp_path: Path) -> None:
    run("mount", "-t", "tmpfs", "tmpfs", tmp_path)
    try:
        freeze(tmp_path, lease=LEASE, unsupported="remount_ro")
        kill_together(of_lease(LEASE))
        wait_for(lambda: not of_lease(LEASE), 5)
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "x").write_text("x")
        answer = thaw(tmp_path, lease=LEASE)
        assert (answer["changed"], answer["held"]) == (True, False)
        assert answer["thawed_by"] == "guard_lost"
        (tmp_path / "x").write_text("x")
    finally:
        run("umount", tmp_path)
