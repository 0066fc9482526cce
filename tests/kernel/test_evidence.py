# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a state is known when the kernel cannot be asked: each means is really taken away."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import Filesystem, Lab, run
from tests.kernel.modules import Failed, freeze, info, state, thaw
from tests.kernel.processes import of_lease, wait_for

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878

# A seccomp filter that makes bpf(2) fail as it does on a kernel built without it.
_NO_BPF = """
import ctypes, os, struct, sys
number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
program = struct.pack("HBBIHBBIHBBIHBBI", 0x20, 0, 0, 0, 0x15, 0, 1, number,
                      0x06, 0, 0, 0x00050000 | 38, 0x06, 0, 0, 0x7FFF0000)
code = ctypes.create_string_buffer(program, len(program))
filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, filters, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""

_SHELL = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
WITHOUT = {
    "no BTF": [*_SHELL, 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"],
    "damaged BTF": [
        *_SHELL,
        'mount --bind /proc/sys/kernel/ostype /sys/kernel/btf/vmlinux && exec "$@"',
        "sh",
    ],
    "no privilege for BPF": ["setpriv", "--bounding-set=-perfmon,-bpf", "--inh-caps=-perfmon,-bpf"],
    "no bpf(2)": [sys.executable, "-c", _NO_BPF],
    "unknown architecture": ["setarch", "i686"],
}


def without(means: str) -> list[str]:
    """The command that runs another without these means."""
    if means == "no privilege for BPF":
        # CAP_SYS_ADMIN includes both, and freezing needs it: the kernel's own switch for
        # everybody is the lockdown, which this cannot set. So without root's privilege.
        return ["setpriv", "--bounding-set=-perfmon,-bpf,-sys_admin", "--inh-caps=-sys_admin"]
    return WITHOUT[means]


MEANS = list(WITHOUT)
WITH_PRIVILEGE = [means for means in MEANS if means != "no privilege for BPF"]


@pytest.mark.parametrize("means", MEANS)
def test_unknown_and_never_a_guess(lab: Lab, means: str) -> None:
    with lab.filesystem("ext4") as one:
        (found,) = info(one, prefix=without(means))
        assert (found["state"], found["evidence"]) == ("unknown", "none")
        with one.frozen():
            (found,) = info(one, prefix=without(means))
            assert (found["state"], found["evidence"]) == ("unknown", "none")


@pytest.mark.parametrize("means", WITH_PRIVILEGE)
def test_lease_is_evidence(filesystem: Filesystem, means: str) -> None:
    freeze(filesystem, lease="e", prefix=without(means))
    (found,) = info(filesystem, prefix=without(means))
    assert (found["state"], found["evidence"]) == ("frozen", "lease")
    assert found["lease"]["name"] == "e"
    filesystem.thaw()
    (found,) = info(filesystem, prefix=without(means))
    assert (found["state"], found["evidence"]) == ("unknown", "none")
    assert thaw(filesystem, lease="e", prefix=without(means))["held"] is False
    freeze(filesystem, lease="e", prefix=without(means))
    answer = thaw(filesystem, lease="e", prefix=without(means))
    assert (answer["held"], answer["filesystems"][0]["state"]) == (True, "thawed")


def processes_asking_about(filesystem: Filesystem) -> list[int]:
    """The processes of fsfreeze_info that were given this mountpoint."""
    pattern = f'fsfreeze_info .*{filesystem.mountpoint}"'
    text = subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False)
    return [int(pid) for pid in text.stdout.split()]


@pytest.mark.parametrize("means", MEANS)
def test_probe_is_evidence_and_its_process_ends_with_the_thaw(
    filesystem: Filesystem, means: str
) -> None:
    def probes() -> list[int]:
        return processes_asking_about(filesystem)

    (found,) = info(filesystem, probe=True, prefix=without(means))
    assert (found["state"], found["evidence"]) == ("thawed", "probe")
    assert not probes()
    with filesystem.frozen():
        (found,) = info(filesystem, probe=True, prefix=without(means))
        assert (found["state"], found["evidence"]) == ("frozen", "probe")
        assert len(probes()) == 1
    wait_for(lambda: not probes(), 2)


@pytest.mark.parametrize("means", WITH_PRIVILEGE)
def test_freeze_and_thaw_work_without(filesystem: Filesystem, means: str) -> None:
    prefix = without(means)
    predicted = freeze(filesystem, check=True, prefix=prefix)
    assert predicted["changed"]
    assert "not known" in str(predicted["warnings"])
    assert freeze(filesystem, lease="w", prefix=prefix)["changed"]
    assert state(filesystem) == "frozen"
    assert not freeze(filesystem, lease="w", prefix=prefix)["changed"]
    with pytest.raises(Failed, match="lease 'w'"):
        freeze(filesystem, lease="v", prefix=prefix)
    assert thaw(filesystem, lease="w", prefix=prefix)["held"] is True
    with filesystem.frozen():
        with pytest.raises(Failed, match="outside of this collection"):
            freeze(filesystem, lease="w", prefix=prefix)
        answer = freeze(filesystem, prefix=prefix)
        assert not answer["changed"]
        assert answer["filesystems"][0]["state"] == "frozen"
        assert "outside of this collection" in str(answer["warnings"])
        assert thaw(filesystem, prefix=prefix)["changed"]
    assert not thaw(filesystem, prefix=prefix)["changed"]


def test_probe_is_only_for_where_it_is_needed(lab: Lab) -> None:
    with lab.filesystem("xfs") as one, one.frozen():
        (found,) = info(one, probe=True)
        assert (found["state"], found["evidence"]) == ("frozen", "kernel")


def test_info_does_not_wait_and_leaves_nothing(filesystem: Filesystem) -> None:
    with filesystem.frozen():
        began = time.monotonic()
        info(filesystem)
        info()
        assert time.monotonic() - began < 5
        assert not processes_asking_about(filesystem)


@pytest.fixture
def hung_task_panic(tmp_path: Path) -> Iterator[None]:
    """A host that panics on a task that sleeps for long, as seen from this mount namespace.

    The setting itself is the whole machine's, and other workers' guards look at it, too.
    """
    path = Path("/proc/sys/kernel/hung_task_panic")
    says = tmp_path / path.name
    says.write_text("1\n")
    run("mount", "--bind", says, path)
    try:
        yield
    finally:
        run("umount", path)


def sleepers(lease: str) -> list[int]:
    states = {}
    for pid in of_lease(lease):
        for task in Path(f"/proc/{pid}/task").iterdir():
            states[int(task.name)] = (task / "stat").read_text().rpartition(")")[2].split()[0]
    return [task for task, letter in states.items() if letter == "D"]


@pytest.mark.usefixtures("hung_task_panic")
class TestWhereASleepingChildCouldPanicTheHost:
    def test_nothing_sleeps(self, filesystem: Filesystem) -> None:
        freeze(filesystem, lease="h")
        try:
            time.sleep(0.3)
            assert not sleepers("h")
        finally:
            assert thaw(filesystem, lease="h")["held"] is True

    def test_no_probe(self, lab: Lab) -> None:
        with lab.filesystem("ext4") as one, one.frozen():
            (found,) = info(one, probe=True, prefix=without("no BTF"))
            assert (found["state"], found["evidence"]) == ("unknown", "none")

    def test_thaw_by_another(self, filesystem: Filesystem) -> None:
        freeze(filesystem, lease="h")
        filesystem.thaw()
        answer = thaw(filesystem, lease="h")
        assert answer["held"] is False
        assert answer["thawed_by"] == "other"

    def test_thaw_and_freeze_with_a_write_between(self, filesystem: Filesystem) -> None:
        """As fast as it goes with a write in it: the devices' counters tell."""
        fd = os.open(filesystem.mountpoint, os.O_RDONLY)
        try:
            for number in range(5):
                freeze(filesystem, lease="h")
                fcntl.ioctl(fd, FITHAW, 0)
                (filesystem.mountpoint / f"written {number}").write_text("x")
                fcntl.ioctl(fd, FIFREEZE, 0)
                answer = thaw(filesystem, lease="h")
                filesystem.thaw()
                assert answer["held"] is False
        finally:
            os.close(fd)

    def test_without_the_kernels_state_held_is_not_claimed(self, lab: Lab) -> None:
        with lab.filesystem("xfs") as one:
            answer = freeze(one, lease="h", prefix=without("no BTF"))
            assert "prove" in str(answer["warnings"])
            assert thaw(one, lease="h")["held"] is False

    def test_killed(self, filesystem: Filesystem) -> None:
        guard = freeze(filesystem, lease="h")["lease"]["guard_pid"]
        os.kill(guard, signal.SIGKILL)
        wait_for(lambda: not of_lease("h"), 2)
        assert state(filesystem) == "thawed"


def test_the_means_are_really_taken_away() -> None:
    """Each prefix must run a command, else the tests above would prove nothing."""
    for means in MEANS:
        done = subprocess.run([*without(means), "echo", "ran"], capture_output=True, check=True)
        assert done.stdout == b"ran\n", shlex.join(without(means))
