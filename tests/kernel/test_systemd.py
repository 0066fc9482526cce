# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where systemd is PID 1, the guard is a transient unit, and PID 1 thaws when it is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible
import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel import modules
from tests.kernel.lab import MIB, throttled
from tests.kernel.processes import command, kill_together, parent, wait_for
from tests.kernel.systemd_host import SystemdHost

pytest_plugins = ["tests.kernel.systemd_fixture"]

LEASE = "unit"
LIBRARY = "/opt/quiesce"
ROOT = Path(__file__).parents[2]


def put_modules(host: SystemdHost) -> None:
    """Unpack what a module needs on the host: our plugins, and ansible-core's module_utils."""
    memory = io.BytesIO()
    core = Path(ansible.__file__).parent
    with tarfile.open(fileobj=memory, mode="w") as archive:
        archive.add(core / "module_utils", "ansible/module_utils", filter=_no_caches)
        archive.add(core / "release.py", "ansible/release.py")
        archive.addfile(tarfile.TarInfo("ansible/__init__.py"))
        plugins = "ansible_collections/quiesce/storage/plugins"
        archive.add(ROOT / "plugins", plugins, filter=_no_caches)
    host.put("/opt/modules.tar", memory.getvalue())
    host.check(["mkdir", "-p", LIBRARY])
    host.check(["tar", "-x", "-C", LIBRARY, "-f", "/opt/modules.tar"])


def _no_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


class Host:
    """The systemd host, with our modules on it."""

    def __init__(self, host: SystemdHost) -> None:
        self.host = host
        self._reader = Reader()
        self._fds = {
            path: os.open(host.outside_mount(path), os.O_RDONLY) for path in ("/", "/data")
        }

    def call(self, name: str, **options: Any) -> dict[str, Any]:
        program = modules.arguments_of(name, False, options)[1:]
        done = self.host.run(
            [self.host.python, *program],
            environment={"PYTHONPATH": LIBRARY, "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=60,
        )
        return modules.parse(done.stdout, done.stderr)

    def freeze(self, *paths: str, **options: Any) -> dict[str, Any]:
        self.host.arm_thaw(40)
        return self.call("fsfreeze", path=paths, state="frozen", lease=LEASE, **options)

    def thaw(self, *paths: str) -> dict[str, Any]:
        return self.call("fsfreeze", path=paths, state="thawed", lease=LEASE)

    def states(self, *paths: str) -> list[str]:
        return [self._reader.state(self._fds[path]) for path in paths]

    def processes(self) -> list[int]:
        return self.host.find(f" {LEASE}")

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)


@pytest.fixture(scope="module")
def prepared(systemd_host: SystemdHost) -> SystemdHost:
    put_modules(systemd_host)
    return systemd_host


@pytest.fixture
def host(prepared: SystemdHost) -> Iterator[Host]:
    made = Host(prepared)
    try:
        yield made
    finally:
        prepared.disarm_thaw()
        made.close()
        wait_for(lambda: not made.processes(), 10)


SETS = [("/data",), ("/",), ("/data", "/")]


@pytest.mark.parametrize("paths", SETS)
def test_freeze_and_thaw(host: Host, paths: tuple[str, ...]) -> None:
    answer = host.freeze(*paths)
    assert host.states(*paths) == ["frozen"] * len(paths)
    guard = answer["lease"]["guard_pid"]
    # The session that ran the module has ended; PID 1 is the guard's parent.
    outside = host.host.pid(guard)
    assert parent(outside) == host.host.init
    assert "quiesce-unit-" in Path(f"/proc/{outside}/cgroup").read_text()
    answer = host.thaw(*paths)
    assert answer["held"] is True
    assert host.states(*paths) == ["thawed"] * len(paths)
    wait_for(lambda: not host.processes(), 3)
    units = host.host.check(["systemctl", "list-units", "--all", "quiesce-unit-*"])
    assert "0 loaded" in units


@pytest.mark.parametrize("paths", SETS)
@pytest.mark.parametrize("victims", ["guard", "all"])
def test_killed(host: Host, paths: tuple[str, ...], victims: str) -> None:
    guard = host.host.pid(host.freeze(*paths)["lease"]["guard_pid"])
    targets = [guard] if victims == "guard" else host.processes()
    assert guard in targets
    kill_together(targets)
    wait_for(lambda: host.states(*paths) == ["thawed"] * len(paths), 1)
    wait_for(lambda: not host.processes(), 5)
    answer = host.thaw(*paths)
    assert not answer["changed"]
    assert answer["held"] is False
    assert answer["thawed_by"] == "guard_lost"


def test_all_killed_by_systemctl(host: Host) -> None:
    host.freeze("/data")
    host.host.check(["systemctl", "kill", "--kill-who=all", "--signal=KILL", "quiesce-unit-*"])
    wait_for(lambda: host.states("/data") == ["thawed"], 1)


def test_a_unit_that_pid_1_starts_late(host: Host) -> None:
    """Who asked for it gave up, and started the guard without it: the lease is not touched."""
    guard = host.host.pid(host.freeze("/data")["lease"]["guard_pid"])
    argv = command(guard).split()
    after = " ".join([*argv[: argv.index("guard")], "after", LEASE])
    options = ["--wait", "--collect", f"--property=ExecStopPost={after}"]
    # Nobody listens any more where the guard was to be given its set.
    assert host.host.run(["systemd-run", *options, "--", *argv], timeout=60).returncode != 0
    assert host.states("/data") == ["frozen"]
    answer = host.thaw("/data")
    assert (answer["held"], answer["thawed_by"]) == (True, "request")


def test_pid_1_does_not_answer(host: Host) -> None:
    """The guard is started without it; the unit that comes late leaves the lease alone."""
    os.kill(host.host.init, signal.SIGSTOP)
    try:
        answer = host.freeze("/data")
        guard = host.host.pid(answer["lease"]["guard_pid"])
        assert "quiesce-unit-" not in Path(f"/proc/{guard}/cgroup").read_text()
    finally:
        os.kill(host.host.init, signal.SIGCONT)
    time.sleep(2)
    assert host.states("/data") == ["frozen"]
    answer = host.thaw("/data")
    assert (answer["held"], answer["thawed_by"]) == (True, "request")


def test_unit_stopped(host: Host) -> None:
    """As at a shutdown: SIGTERM to the guard."""
    host.freeze("/data")
    host.host.check(["systemctl", "stop", "quiesce-unit-*"])
    assert host.states("/data") == ["thawed"]
    assert host.thaw("/data")["held"] is False


def test_all_killed_after_a_lazy_unmount(host: Host) -> None:
    host.freeze("/data")
    host.host.check(["umount", "--lazy", "/data"])
    try:
        kill_together(host.processes())
        wait_for(lambda: host.states("/data") == ["thawed"], 1)
    finally:
        host.host.check(["mount", host.host.data_device, "/data"])


def test_all_killed_while_storage_is_slow(host: Host) -> None:
    """PID 1's helper waits for the FIFREEZE that nobody can stop, and thaws behind it."""
    data = host.host.outside("/data")
    with throttled(host.host.data_device, 4 * MIB):
        (data / "dirty").write_bytes(os.urandom(12 * MIB))
        options = {"path": ["/data"], "state": "frozen", "lease": LEASE, "flush": False}
        program = modules.arguments_of("fsfreeze", False, options)[1:]
        call = subprocess.Popen(
            ["podman", "exec", "--env", f"PYTHONPATH={LIBRARY}", host.host.container]
            + [host.host.python, *program],
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: host.states("/data") == ["freezing"], 10)
        time.sleep(0.2)
        kill_together(host.host.find("guard /run/quiesce/"))
        output = call.communicate(timeout=30)[0]
        assert json.loads(output)["failed"]
    wait_for(lambda: host.states("/data") == ["thawed"], 20)


def test_deadline(host: Host) -> None:
    host.freeze("/", "/data", timeout=2)
    wait_for(lambda: host.states("/", "/data") == ["thawed", "thawed"], 2.5)
    answer = host.thaw("/", "/data")
    assert answer["thawed_by"] == "deadline"
    assert answer["frozen_seconds"] == pytest.approx(2, abs=0.5)
