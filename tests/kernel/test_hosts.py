# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespaced test hosts: apart from the machine while they run, and gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.hosts import USER, Host, open_host
from tests.kernel.lab import Lab, leftovers, remove_crashed_labs, run
from tests.kernel.lab.loops import loops_of
from tests.kernel.processes import wait_for

REPOSITORY = Path(__file__).parents[2]


def links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").glob("quiesce*")}


def ssh(host: Host, user: str, *command: str) -> str:
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-i", str(host.key)]
    return run("ssh", *options, f"{user}@{host.address}", *command).stdout.strip()


def test_a_host_of_its_own(lab: Lab):
    before, attached = links(), len(loops_of(lab.folder))
    with open_host(lab, separate=["/var", "/var/tmp"]) as host, open_host(lab) as other:
        assert host.address != other.address
        assert ssh(host, "root", "hostname") == host.name
        assert ssh(host, USER, "sudo", "id", "-u") == "0"
        devices = ssh(host, "root", "stat", "-c", "%d", "/", "/var", "/var/tmp").split()
        assert (
            len({*devices, str(os.stat("/").st_dev), str(os.stat(lab.base.mountpoint).st_dev)}) == 5
        )
        assert ssh(host, "root", "stat", "-c", "%a", "/var/tmp") == "1777"
        mounted = host.run("findmnt", "--noheadings", "--output", "TARGET", "--real").split()
        assert [name.strip("├─└│") for name in mounted if "/" in name] == ["/", "/var", "/var/tmp"]
        host.freeze("/var/tmp")
        assert host.frozen() == ["/var/tmp"]
        assert other.frozen() == []
    wait_for(lambda: links() <= before, 5)
    assert len(loops_of(lab.folder)) == attached


def test_a_host_stops_while_it_is_frozen(lab: Lab):
    attached = len(loops_of(lab.folder))
    with open_host(lab) as host:
        host.freeze("/")
        writer = subprocess.Popen(host.inside("touch", "/file"))
        init = host.init
    writer.wait(5)
    assert not Path(f"/proc/{init}").exists()
    assert len(loops_of(lab.folder)) == attached


def test_left_overs_of_a_killed_run_are_cleared_away():
    script = """\
import sys, time
from pathlib import Path
from tests.hosts import open_host
from tests.kernel.lab import open_lab
with open_lab(Path(sys.argv[1])) as lab, open_host(lab, separate=["/var"]) as host:
    host.freeze("/", 60)
    print(lab.folder, host.init, flush=True)
    time.sleep(60)
"""
    parent = Path("/var/tmp") / f"t{os.getpid()}"
    parent.mkdir()
    try:
        argv = [sys.executable, "-c", script, str(parent)]
        killed = subprocess.Popen(
            argv,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert killed.stdout is not None
        folder, init = killed.stdout.readline().split()
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert leftovers(Path(folder))
        assert remove_crashed_labs(parent) == [Path(folder)]
        assert leftovers(Path(folder)) == []
        wait_for(lambda: not Path(f"/proc/{init}").exists(), 5)
    finally:
        parent.rmdir()
