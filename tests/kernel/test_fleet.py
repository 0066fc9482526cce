# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet by the command line: it outlives the command, and is gone after stop, come what may."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import leftovers
from tests.kernel.lab.teardown import LOCK, PREFIX
from tests.kernel.processes import wait_for

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class Fleet:
    """The command line on one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, name: str, *arguments: str) -> list[str]:
        argv = [sys.executable, "-m", "tests.hosts", name, "--folder", str(self.folder)]
        return [*argv, *arguments]

    def call(self, name: str, *arguments: str, rc: int = 0) -> str:
        """All that the command says; a failure unless it returns ``rc``."""
        done = subprocess.run(
            self.command(name, *arguments),
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == rc, done.stdout
        return done.stdout

    @property
    def keeper(self) -> int:
        return int((self.folder / "lock").read_text() or 0)

    @property
    def lab(self) -> Path:
        """The folder of its lab, which the keeper holds the lock of; / where it has none yet."""
        for link in Path(f"/proc/{self.keeper}/fd").iterdir():
            with contextlib.suppress(OSError):
                file = link.readlink()
                if file.name == LOCK and file.parent.name.startswith(PREFIX):
                    return file.parent
        return Path("/")

    def hosts(self) -> dict[str, dict[str, Any]]:
        inventory = json.loads((self.folder / "inventory.json").read_text())
        hosts: dict[str, dict[str, Any]] = inventory["fleet"]["hosts"]
        return hosts

    def freeze(self, name: str, path: str) -> None:
        """Freeze a filesystem of a host as a stranger would, who never thaws it."""
        inside = ["nsenter", "--target", str(self.hosts()[name]["fleet_init"]), "--all"]
        subprocess.run([*inside, "--root", "--wd", "fsfreeze", "-f", path], check=True, timeout=30)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that does not run yet; whatever becomes of it is gone after the test."""
    made = Fleet(tmp_path / "fleet")
    try:
        yield made
    finally:
        made.call("stop")


def answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), 1) as sshd:
            sshd.settimeout(1)
            return sshd.recv(4) == b"SSH-"
    except OSError:
        return False


def assert_gone(lab: Path, inits: list[int]) -> None:
    assert leftovers(lab) == []
    wait_for(lambda: not any(Path(f"/proc/{init}").exists() for init in inits), 5)


def test_a_fleet_outlives_the_command(fleet: Fleet):
    inventory = fleet.call("start", "--number", "2").strip()
    hosts = fleet.hosts()
    assert inventory == str(fleet.folder / "inventory.json")
    assert list(hosts) == ["host1", "host2"]
    assert [each["fleet_python"] for each in hosts.values()] == ["3.9", "3.11"]
    assert [each["fleet_paths"] for each in hosts.values()] == [["/"], ["/", "/tmp", "/var"]]
    assert "stop it first" in fleet.call("start", rc=1)
    assert fleet.hosts() == hosts

    address = hosts["host2"]["ansible_host"]
    assert answers(address)
    fleet.call("link", "host2", "down")
    assert not answers(address)
    assert answers(hosts["host1"]["ansible_host"])
    fleet.call("link", "host2", "up")
    wait_for(lambda: answers(address), 10)
    assert "no host of this fleet" in fleet.call("link", "host3", "down", rc=1)

    fleet.call("load")
    written = Path(f"/proc/{hosts['host2']['fleet_init']}/root/var/quiesce-load/append")
    wait_for(lambda: written.exists() and written.stat().st_size > 1000, 20)

    lab, inits = fleet.lab, [each["fleet_init"] for each in hosts.values()]
    fleet.call("stop")
    assert_gone(lab, inits)
    assert not fleet.folder.exists()
    fleet.call("stop")
    assert "no fleet is running" in fleet.call("frozen", rc=1)


def test_the_keeper_is_killed_while_a_host_is_frozen(fleet: Fleet):
    fleet.call("start", "--number", "2")
    fleet.freeze("host2", "/var")
    fleet.freeze("host1", "/")
    lab, keeper = fleet.lab, fleet.keeper
    inits = [each["fleet_init"] for each in fleet.hosts().values()]
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{keeper}").exists(), 5)
    assert json.loads(fleet.call("frozen", "--wait", "0.1", rc=1)) == {
        "host1": ["/"],
        "host2": ["/var"],
    }
    assert leftovers(lab)
    fleet.call("stop")
    assert_gone(lab, inits)


def test_what_stays_frozen_is_thawed_by_the_keeper(fleet: Fleet):
    fleet.call("start", "--number", "1", "--thaw-after", "3")
    fleet.freeze("host1", "/")
    assert json.loads(fleet.call("frozen", "--wait", "60")) == {}
    assert "host1 / is thawed by the keeper" in (fleet.folder / "log").read_text()


def test_a_start_that_is_killed_leaves_nothing(fleet: Fleet):
    killed = subprocess.Popen(
        fleet.command("start", "--number", "2"), cwd=REPOSITORY, env=ENVIRONMENT
    )
    lock = fleet.folder / "lock"
    wait_for(lambda: lock.exists() and fleet.keeper and fleet.lab != Path("/"), 30)
    killed.kill()
    killed.wait()
    lab = fleet.lab
    fleet.call("stop")
    assert_gone(lab, [])


def test_the_keeper_goes_with_its_folder(fleet: Fleet):
    fleet.call("start", "--number", "1")
    lab, keeper = fleet.lab, fleet.keeper
    for path in fleet.folder.iterdir():
        path.unlink()
    wait_for(lambda: not Path(f"/proc/{keeper}").exists(), 60)
    assert_gone(lab, [])
