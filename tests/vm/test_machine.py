# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual machines themselves: what is in them, and what tests rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kernel.processes import wait_for
from tests.vm import Machine, MachineError
from tests.vm.machine import clear_left_overs

REPOSITORY = Path(__file__).parents[2]
KERNELS = {"bullseye": "5.10.", "bookworm": "6.1.", "trixie": "6.12."}


def test_a_stock_debian_with_systemd(vm: Machine):
    assert vm.run("uname", "-r").startswith(KERNELS[vm.suite])
    assert f"VERSION_CODENAME={vm.suite}" in vm.run("cat", "/etc/os-release")
    assert Path(vm.run("readlink", "/proc/1/exe").strip()).name == "systemd"
    assert vm.run("systemctl", "is-system-running").strip() == "running"
    assert abs(float(vm.run("date", "+%s.%N")) - time.time()) < 5


def test_filesystems_and_disks(vm: Machine):
    assert vm.states() == {"/": "thawed", "/data": "thawed", "/srv/xfs": "thawed"}
    for serial, mib in {"pv1": 1024, "pv2": 1024, "spare": 512}.items():
        disk = f"/dev/disk/by-id/virtio-{serial}"
        assert vm.run("blockdev", "--getsize64", disk).strip() == str(mib << 20)
    targets = vm.run("dmsetup", "targets").split()
    assert {"linear", "error", "snapshot", "thin-pool"} <= set(targets)
    # The journal is on the root filesystem, where a freeze stops it.
    assert vm.run("sh", "-c", "ls /var/log/journal/*/system.journal")
    assert vm.run("stat", "-c", "%m", "/var/log/journal").strip() == "/"


def test_restored_within_seconds(vm: Machine):
    boot = vm.boot_id()
    vm.run("touch", "/new", "/data/new")
    port = vm.port
    began = time.monotonic()
    vm.restore()
    assert time.monotonic() - began < 30
    assert vm.boot_id() == boot
    assert vm.port == port
    with pytest.raises(MachineError, match="No such file"):
        vm.run("ls", "/new")


def test_the_kernel_says_what_is_frozen(vm: Machine):
    for path in ("/", "/data", "/srv/xfs"):
        vm.freeze(path)
        assert vm.frozen() == [path]
        assert vm.thaw() == [path]
        assert vm.frozen() == []


def test_all_frozen_and_still_reached(vm: Machine):
    for path in ("/srv/xfs", "/data", "/"):
        vm.freeze(path)
    assert sorted(vm.frozen()) == ["/", "/data", "/srv/xfs"]
    assert vm.run("echo", "through") == "through\n"
    # What was frozen by hand is thawed when the connection ends, and a new one gets through.
    vm.disconnect()
    wait_for(lambda: not vm.frozen(), 40)


def test_frozen_by_others_and_reached_anew(vm: Machine):
    vm.run("fsfreeze", "--freeze", "/")
    vm.disconnect()
    assert vm.frozen() == ["/"]
    assert vm.thaw() == ["/"]


def test_thawed_by_itself(vm: Machine):
    vm.freeze("/", seconds=2)
    assert vm.thawed_after(seconds=10) < 5


def test_a_command_that_is_blocked(vm: Machine):
    vm.freeze("/data")
    with pytest.raises(MachineError, match="TimeoutExpired"):
        vm.run("touch", "/data/file", timeout=2)
    # Nothing else is held up by it.
    assert vm.run("echo", "through") == "through\n"
    vm.thaw()
    assert vm.run("ls", "/data/file")


def test_cut_and_joined(vm: Machine):
    vm.cut()
    assert not vm.answers()
    assert vm.run("echo", "through") == "through\n"
    vm.join()
    assert vm.answers()


def test_reset_boots_again(vm: Machine):
    boot = vm.boot_id()
    vm.reset()
    assert vm.boot_id() != boot
    assert vm.states() == {"/": "thawed", "/data": "thawed", "/srv/xfs": "thawed"}


def test_powered_off_and_booted_again(vm: Machine):
    vm.run("touch", "/data/kept")
    vm.execute("system_powerdown")
    vm.qemu.wait_for_end(120)
    vm.boot()
    assert vm.run("ls", "/data/kept")


def test_disks_of_one_moment(vm: Machine):
    vm.run("sh", "-c", "echo before >/data/file && sync")
    files = vm.qemu.snapshot("test")
    vm.run("sh", "-c", "echo later >/data/file && sync")
    raw = vm.folder / "data.raw"
    subprocess.run(
        ["qemu-img", "convert", "-U", "-O", "raw", files["data"], raw], check=True, timeout=60
    )
    shown = subprocess.run(
        ["debugfs", "-R", "cat /file", raw], check=True, capture_output=True, timeout=60
    )
    assert shown.stdout == b"before\n"


def test_left_overs_of_a_killed_run_are_cleared_away(tmp_path: Path):
    script = """\
import sys, time
from pathlib import Path
from tests.vm import open_machine
with open_machine(folder=Path(sys.argv[1])) as vm:
    print(vm.qemu.pid(), flush=True)
    time.sleep(600)
"""
    killed = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert killed.stdout is not None
    pid = killed.stdout.readline().strip()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert Path(f"/proc/{pid}").exists()
    assert len(clear_left_overs(tmp_path)) == 1
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 10)
    assert not list(tmp_path.glob("*/"))
