# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard under attack: killed, stopped, starved, made to wait. The filesystem thaws."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import ask
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel.guarded import LEASE, Frozen, begun, connected
from tests.kernel.lab import MIB, Filesystem, Lab, run, throttled
from tests.kernel.modules import Failed, arguments_of, environment, freeze, parse, state, thaw
from tests.kernel.processes import (
    children,
    command,
    kill_together,
    of_lease,
    pss_kib,
    second_of,
    wait_for,
)


def lost(filesystem: Filesystem) -> None:
    answer = thaw(filesystem, lease=LEASE)
    assert not answer["changed"]
    assert answer["held"] is False
    assert answer["thawed_by"] == "guard_lost"
    assert answer["frozen_seconds"] > 0


def test_guard_killed(frozen: Frozen) -> None:
    os.kill(frozen.guard, signal.SIGKILL)
    frozen.thaws_within(1)
    lost(frozen.filesystem)


def test_guard_killed_with_its_children(frozen: Frozen) -> None:
    for pid in [*children(frozen.guard), frozen.guard]:
        os.kill(pid, signal.SIGKILL)
    frozen.thaws_within(1)
    lost(frozen.filesystem)


def test_guards_process_group_and_session_killed(frozen: Frozen) -> None:
    os.killpg(os.getpgid(frozen.guard), signal.SIGKILL)
    frozen.thaws_within(1)
    lost(frozen.filesystem)


def test_guard_terminated(frozen: Frozen) -> None:
    os.kill(frozen.guard, signal.SIGTERM)
    frozen.thaws_within(1)
    lost(frozen.filesystem)


def test_guard_hung_up_goes_on(frozen: Frozen) -> None:
    os.kill(frozen.guard, signal.SIGHUP)
    time.sleep(0.3)
    assert frozen.state() == "frozen"
    assert thaw(frozen.filesystem, lease=LEASE)["held"] is True


def test_second_process_is_replaced(frozen: Frozen) -> None:
    first = second_of(LEASE, frozen.guard)
    os.kill(first, signal.SIGTERM)
    time.sleep(0.1)
    assert second_of(LEASE, frozen.guard) == first
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: set(of_lease(LEASE)) - {frozen.guard, first, *children(frozen.guard)}, 2)
    assert frozen.state() == "frozen"
    os.kill(frozen.guard, signal.SIGKILL)
    frozen.thaws_within(1)


def test_second_process_that_comes_late_leaves_the_next_lease_alone(filesystem: Filesystem) -> None:
    first = Frozen(filesystem)
    first.close()
    late = second_of(LEASE, first.guard)
    os.kill(late, signal.SIGSTOP)
    try:
        assert thaw(filesystem, lease=LEASE)["held"] is True
        freeze(filesystem, lease=LEASE)
    finally:
        os.kill(late, signal.SIGCONT)
    wait_for(lambda: late not in of_lease(LEASE), 5)
    assert thaw(filesystem, lease=LEASE)["held"] is True


def test_witness_killed_does_not_thaw_and_is_not_mistaken(frozen: Frozen) -> None:
    (witness,) = children(frozen.guard)
    os.kill(witness, signal.SIGKILL)
    time.sleep(0.2)
    assert frozen.state() == "frozen"
    # It cannot die before the thaw, so it still proves the freeze.
    assert thaw(frozen.filesystem, lease=LEASE)["held"] is True


def test_guard_that_cannot_look_does_not_let_go(filesystem: Filesystem) -> None:
    """It may open no file any more, and so cannot see whether its witness sleeps."""
    held = Frozen(filesystem, timeout=4)
    with contextlib.ExitStack() as stack:
        stack.callback(thaw, filesystem)
        stack.callback(held.close)
        descriptors = Path(f"/proc/{held.guard}/fd")
        limit = max(int(each.name) for each in descriptors.iterdir()) + 1
        # Those below its last one are taken by who talks to it.
        while len(list(descriptors.iterdir())) < limit:
            stack.enter_context(connected())
            time.sleep(0.05)
        resource.prlimit(held.guard, resource.RLIMIT_NOFILE, (limit, limit))
        time.sleep(1)
        assert held.state() == "frozen"
        assert held.guard in of_lease(LEASE)
        held.thaws_within(4)
    wait_for(lambda: not of_lease(LEASE), 5)


def test_all_killed_at_once_is_seen_and_can_be_thawed(frozen: Frozen) -> None:
    """Without systemd nobody is left to thaw; the record still says whose it was."""
    kill_together(of_lease(LEASE))
    time.sleep(0.3)
    assert frozen.state() == "frozen"
    # Nor is anybody told to wait for a deadline that nobody keeps.
    with pytest.raises(Failed, match=r"its guard is dead.*Thaw it first \(state=thawed\)$"):
        freeze(frozen.filesystem, lease="another")
    answer = thaw(frozen.filesystem, lease=LEASE)
    assert answer["changed"]
    assert answer["held"] is False
    assert answer["thawed_by"] == "guard_lost"
    assert frozen.state() == "thawed"


@pytest.mark.parametrize("timeout", [1, 2])
def test_deadline_to_the_tenth(filesystem: Filesystem, timeout: int) -> None:
    held = Frozen(filesystem, timeout=timeout)
    try:
        held.thaws_within(timeout + 0.5)
        answer = thaw(filesystem, lease=LEASE)
        assert answer["frozen_seconds"] == pytest.approx(timeout, abs=0.5)
    finally:
        held.close()


def effective_capabilities() -> int:
    """The mask of this process's effective capabilities."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if "CapEff" in line), 16)


def test_memory_of_all_processes(lab: Lab) -> None:
    with (
        lab.filesystem("ext4") as one,
        lab.filesystem("xfs") as two,
        lab.filesystem("btrfs") as three,
    ):
        answer = freeze(one, two, three, lease=LEASE)
        try:
            pids = of_lease(LEASE)
            assert len(pids) == 3
            total = sum(pss_kib(pid) for pid in pids)
            status = Path(f"/proc/{answer['lease']['guard_pid']}/status").read_text()
            locked = next(line.split()[1] for line in status.splitlines() if "VmLck" in line)
            adjust = Path(f"/proc/{answer['lease']['guard_pid']}/oom_score_adj").read_text()
        finally:
            thaw(one, two, three, lease=LEASE)
    assert total <= 32 * 1024
    assert int(locked) > 0
    # Lowering it takes CAP_SYS_RESOURCE; without, it stays as it was.
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(adjust) == (-1000 if effective_capabilities() >> 24 & 1 else own)


def test_nothing_is_written_but_under_run(frozen: Frozen) -> None:
    folder = Path("/run/quiesce")
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert folder.stat().st_uid == 0
    for pid in of_lease(LEASE):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(descriptor)
            flags = int((Path(f"/proc/{pid}/fdinfo") / descriptor.name).read_text().split()[3], 8)
            if flags & os.O_ACCMODE != os.O_RDONLY and target.startswith("/"):
                assert target.startswith("/run/quiesce/") or target == "/dev/null"


def test_slow_storage_and_a_deadline(lab: Lab) -> None:
    """A FIFREEZE that takes longer than the deadline: the rest thaws in time, it when it can."""
    with lab.filesystem("ext4") as quick, lab.filesystem("xfs", size=512 * MIB) as slow:
        reader = Reader()
        fds = [os.open(each.mountpoint, os.O_RDONLY) for each in (quick, slow)]
        try:
            with throttled(slow.device, 4 * MIB):
                (slow.mountpoint / "dirty").write_bytes(os.urandom(24 * MIB))
                began = time.monotonic()
                with pytest.raises(Failed, match=rf"{slow}.*deadline") as failed:
                    freeze(quick, slow, lease=LEASE, timeout=1, flush=False)
                # The freeze itself takes six seconds.
                assert time.monotonic() - began < 5
                states = {
                    each["path"]: each["state"] for each in failed.value.result["filesystems"]
                }
                assert states == {str(quick): "thawed", str(slow): "freezing"}
                assert reader.state(fds[0]) == "thawed"
                assert reader.state(fds[1]) == "freezing"
            wait_for(lambda: reader.state(fds[1]) == "thawed", 30)
            wait_for(lambda: not of_lease(LEASE), 5)
        finally:
            for fd in fds:
                os.close(fd)


@pytest.mark.parametrize("victims", ["guard", "guard and children"])
def test_killed_while_storage_is_slow(lab: Lab, victims: str) -> None:
    """The straggler is caught by the second process as well."""
    with lab.filesystem("ext4") as quick, lab.filesystem("ext4", size=512 * MIB) as slow:
        reader = Reader()
        fds = [os.open(each.mountpoint, os.O_RDONLY) for each in (quick, slow)]
        try:
            with throttled(slow.device, 4 * MIB):
                (slow.mountpoint / "dirty").write_bytes(os.urandom(16 * MIB))
                call = subprocess.Popen(
                    arguments_of(
                        "fsfreeze",
                        False,
                        {"path": [quick, slow], "state": "frozen", "lease": LEASE, "flush": False},
                    ),
                    env=environment(),
                    stdout=subprocess.PIPE,
                    text=True,
                )
                wait_for(lambda: reader.state(fds[1]) == "freezing", 10)
                wait_for(lambda: reader.state(fds[0]) == "frozen", 10)
                second = [pid for pid in of_lease(LEASE) if not children(pid)]
                guard = next(pid for pid in of_lease(LEASE) if children(pid))
                chosen = [guard] if victims == "guard" else [*children(guard), guard]
                assert second
                for pid in chosen:
                    os.kill(pid, signal.SIGKILL)
                wait_for(lambda: reader.state(fds[0]) == "thawed", 1)
                output = call.communicate(timeout=20)[0]
                with pytest.raises(Failed, match="guard was killed"):
                    parse(output)
            wait_for(lambda: reader.state(fds[1]) == "thawed", 30)
            wait_for(lambda: not of_lease(LEASE), 5)
        finally:
            for fd in fds:
                os.close(fd)


def give_up_freezing(slow: Filesystem) -> None:
    (slow.mountpoint / "dirty").write_bytes(os.urandom(16 * MIB))
    with pytest.raises(Failed, match="freeze_timeout"):
        freeze(slow, lease=LEASE, freeze_timeout=1, flush=False)


def test_freeze_timeout(lab: Lab) -> None:
    with lab.filesystem("xfs", size=512 * MIB) as slow:
        with throttled(slow.device, 4 * MIB):
            give_up_freezing(slow)
        wait_for(lambda: not of_lease(LEASE), 30)
        assert state(slow) == "thawed"


def test_a_late_freeze_is_thawed_whoever_asks_meanwhile(lab: Lab) -> None:
    with lab.filesystem("xfs", size=512 * MIB) as slow:
        with throttled(slow.device, 4 * MIB):
            give_up_freezing(slow)
            asked = 0
            while ask(LEASE, {"op": "status"}):
                asked += 1
        assert asked > 10
        wait_for(lambda: not of_lease(LEASE), 5)
        assert state(slow) == "thawed"


def test_module_killed_before_the_answer(lab: Lab) -> None:
    with lab.filesystem("xfs", size=512 * MIB) as slow:
        with throttled(slow.device, 8 * MIB):
            (slow.mountpoint / "dirty").write_bytes(os.urandom(16 * MIB))
            options = {"path": [slow], "state": "frozen", "lease": LEASE, "flush": False}
            call = subprocess.Popen(
                arguments_of("fsfreeze", False, options),
                env=environment(),
                stdout=subprocess.DEVNULL,
            )
            wait_for(lambda: of_lease(LEASE), 10)
            time.sleep(0.5)
            call.kill()
            call.wait()
        wait_for(lambda: not of_lease(LEASE), 30)
        assert state(slow) == "thawed"


def test_nothing_is_frozen_that_cannot_be_written_down(lab: Lab) -> None:
    """/run becomes read-only between the flush and the freeze."""
    folder = "/run/quiesce"
    with lab.filesystem("xfs", size=512 * MIB) as slow:
        with throttled(slow.device, 4 * MIB):
            (slow.mountpoint / "dirty").write_bytes(os.urandom(12 * MIB))
            options = {"path": [slow], "state": "frozen", "lease": LEASE}
            argv = arguments_of("fsfreeze", False, options)
            call = subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, text=True)
            begun("flushing")
            run("mount", "--bind", folder, folder)
            run("mount", "-o", "remount,bind,ro", folder)
            try:
                with pytest.raises(Failed, match="full or read-only; nothing was frozen"):
                    parse(call.communicate(timeout=30)[0])
            finally:
                run("umount", "--lazy", folder)
        wait_for(lambda: not of_lease(LEASE), 30)
        assert state(slow) == "thawed"


def test_guard_is_detached_from_the_session_that_started_it(filesystem: Filesystem) -> None:
    """What an ssh connection does to what it started, done here: hang-up, and the group killed."""
    options = {"path": [filesystem], "state": "frozen", "lease": LEASE}
    call = subprocess.Popen(
        ["setsid", "--wait", *arguments_of("fsfreeze", False, options)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    output = call.communicate(timeout=20)[0]
    guard = parse(output)["lease"]["guard_pid"]
    try:
        assert os.getsid(guard) not in (os.getsid(0), call.pid)
        for descriptor in range(3):
            assert os.readlink(f"/proc/{guard}/fd/{descriptor}") == "/dev/null"
        assert "guard" in command(guard)
    finally:
        assert thaw(filesystem, lease=LEASE)["held"] is True


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n",
        b"{",
        b'{"op": "thaw"',
        b"[]\n",
        b"null\n",
        b'{"op": 1}\n',
        b"\xff\xfe\n",
        b'{"op": "renew", "timeout": -1}\n',
        b'{"op": "renew", "timeout": "x"}\n',
        b'{"op": "thaw", "devices": 7}\n',
        b'{"op": "thaw", "devices": [[]]}\n',
        b"[" * 100000 + b"\n",
    ],
)
def test_nonsense_on_the_socket(lab: Lab, message: bytes) -> None:
    with lab.filesystem("ext4") as one:
        freeze(one, lease=LEASE)
        try:
            with connected() as line:
                line.sendall(message)
                time.sleep(0.05)
            with connected() as line:
                line.sendall(b'{"op": "status"}\n')
                line.settimeout(5)
                assert json.loads(line.makefile("rb").readline())["held"] is True
        finally:
            assert thaw(one, lease=LEASE)["held"] is True
