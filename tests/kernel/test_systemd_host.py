# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd test host works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.bare_guard import put_scripts, start_guard
from tests.kernel.systemd_host import (
    HostError,
    SystemdHost,
    ThawClock,
    base_image,
    cache_folder,
    clear_left_overs,
    image,
    machine_suite,
)

pytest_plugins = ["tests.kernel.systemd_fixture"]

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def host(thawed_systemd_host: SystemdHost) -> SystemdHost:
    """The host that these tests share, thawed after each of them."""
    return thawed_systemd_host


def test_systemd_is_pid_1(host: SystemdHost):
    assert host.check(["cat", "/proc/1/comm"]) == "systemd\n"
    assert host.run(["systemctl", "is-system-running"]).stdout.strip() == "running"
    assert host.check([host.python, "-c", "print(1)"]) == "1\n"


def test_root_and_data_are_filesystems_of_their_own(host: SystemdHost):
    devices = {host.check(["stat", "-c", "%d", path]) for path in ("/", "/tmp", "/var/log/journal")}
    assert devices == {f"{host.root.stat().st_dev}\n"}
    assert host.check(["stat", "-c", "%d", "/data"]) == f"{host.data.stat().st_dev}\n"
    assert len({host.root.stat().st_dev, host.data.stat().st_dev, Path("/").stat().st_dev}) == 3
    assert host.check(["findmnt", "-no", "SOURCE", "/data"]).strip() == host.data_device


def test_run_gives_input_output_rc_and_environment(host: SystemdHost):
    done = host.run(
        ["sh", "-c", 'cat; echo "$WORD" >&2; exit 3'], input="in", environment={"WORD": "err"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "err\n")


def test_a_host_with_a_frozen_root_still_answers(host: SystemdHost):
    host.freeze("/")
    assert host.check(["cat", "/proc/1/comm"], timeout=5) == "systemd\n"
    assert host.thaw("/")
    assert not host.thaw("/")


def test_the_armed_thaw_comes(host: SystemdHost):
    host.freeze("/data", seconds=0.5)
    frozen_at = time.monotonic()
    thawed_at = ThawClock(host.data).wait(5)
    assert thawed_at is not None
    assert thawed_at - frozen_at < 1


def test_pids_are_those_of_the_machine(host: SystemdHost):
    host.check(["systemd-run", "--quiet", "--collect", "--unit=nap", "sleep", "617"])
    pid = host.main_pid("nap.service")
    assert Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"sleep\x00617\0")
    assert host.find("sleep 617") == [pid]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    assert host.show("nap.service", "ActiveState") == "inactive"
    with pytest.raises(ProcessLookupError):
        host.pid(999_999)


def test_put_does_not_leave_the_host(host: SystemdHost):
    with pytest.raises(HostError, match="leads out of the host"):
        host.put("/var/run/quiesce-put-test", b"")


def assert_nothing_left(name: str) -> None:
    """No folder, mount, loop device or container carries the name of the host."""
    assert not (cache_folder() / "hosts" / name).exists()
    assert name not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    for argv in (["losetup", "--list"], ["podman", "ps", "--all"]):
        listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert name not in listed


def test_a_host_is_gone_afterwards_even_if_frozen(new_systemd_host: Callable[..., SystemdHost]):
    host = new_systemd_host(data_fstype="xfs", persistent_journal=False)
    assert host.check(["findmnt", "-no", "FSTYPE", "/data"]) == "xfs\n"
    put_scripts(host)
    start_guard(host, ("/data", "/"))
    host.close()
    assert_nothing_left(host.name)


def test_left_overs_of_a_killed_run_are_cleared_away():
    script = """\
import time
from tests.kernel.systemd_host import SystemdHost
with SystemdHost() as host:
    host.freeze("/data", 60)
    host.freeze("/", 60)
    print(host.name, flush=True)
    time.sleep(60)
"""
    run = subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    name = run.stdout.readline().strip()
    assert name not in clear_left_overs()
    run.kill()
    run.communicate()
    assert name in clear_left_overs()
    assert_nothing_left(name)


def test_an_interrupted_build_is_not_taken_for_an_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def interrupted(tree: Path, suite: str) -> None:
        tree.mkdir()
        raise KeyboardInterrupt

    def short(tree: Path, suite: str) -> None:
        tree.mkdir()

    monkeypatch.setenv("QUIESCE_CACHE", str(tmp_path))
    monkeypatch.setattr(image, "ROOT_SIZE_MIB", 8)
    build = f"build-systemd-{machine_suite()}"
    (tmp_path / f"{build}.tmp").mkdir()
    (tmp_path / "systemd-old-recipe.ext4").touch()
    monkeypatch.setattr(image, "_bootstrap", interrupted)
    with pytest.raises(KeyboardInterrupt):
        base_image()
    assert [path.name for path in tmp_path.iterdir()] == [f"{build}.lock"]
    monkeypatch.setattr(image, "_bootstrap", short)
    built = base_image()
    monkeypatch.setattr(image, "_bootstrap", interrupted)
    assert base_image() == built


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=r"apt-get install .*debootstrap .*podman runc"):
        SystemdHost().__enter__()
