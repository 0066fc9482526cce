# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd does for a guard that is killed.

These tests pin which settings of a transient unit make systemd thaw within a second after the
guard was killed, and in which cases systemd alone is not enough.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.kernel.bare_guard import PYTHON, QUIET, end_guard, put_scripts, start_guard
from tests.kernel.systemd_host import SystemdHost, ThawClock

pytest_plugins = ["tests.kernel.systemd_fixture"]

THAW_WITHIN = 1.0
STILL_FROZEN_AFTER = 2.5


@pytest.fixture
def host(thawed_systemd_host: SystemdHost) -> Iterator[SystemdHost]:
    """The host with the scripts of these tests in /run; afterwards without their processes."""
    put_scripts(thawed_systemd_host)
    try:
        yield thawed_systemd_host
    finally:
        end_guard(thawed_systemd_host)


def kill_guard(host: SystemdHost, whom: str = "main") -> float:
    """Kill the guard (``main``), or it and its children (``all``); return when."""
    victims = [host.main_pid("guard.service")] if whom == "main" else host.find("guard")
    killed_at = time.monotonic()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    return killed_at


def assert_thawed(clocks: dict[str, ThawClock], since: float) -> None:
    """Each clock shows a thaw within a second after ``since``, and none before it."""
    for path, clock in clocks.items():
        thawed_at = clock.wait(STILL_FROZEN_AFTER)
        assert thawed_at is not None, f"{path} is still frozen"
        assert 0 <= thawed_at - since < THAW_WITHIN


def assert_still_frozen(clocks: dict[str, ThawClock]) -> None:
    """No clock shows a thaw within a time that is much longer than a second."""
    assert next(iter(clocks.values())).wait(STILL_FROZEN_AFTER) is None


@pytest.mark.parametrize("whom", ["main", "all"])
@pytest.mark.parametrize("paths", [("/data",), ("/data", "/")], ids=["data", "data+root"])
def test_killmode_process_thaws_at_once(host: SystemdHost, paths: tuple[str, ...], whom: str):
    clocks = start_guard(host, paths)
    assert_thawed(clocks, kill_guard(host, whom))


def test_a_kill_of_the_whole_unit_thaws_at_once(host: SystemdHost):
    clocks = start_guard(host, ("/data", "/"))
    killed_at = time.monotonic()
    host.check(["systemctl", "kill", "--kill-who=all", "--signal=KILL", "guard.service"])
    assert_thawed(clocks, killed_at)


@pytest.mark.parametrize("mode", ["mixed", "control-group"])
def test_other_kill_modes_wait_for_the_sleeping_child(host: SystemdHost, mode: str):
    clocks = start_guard(host, properties=(f"KillMode={mode}",))
    kill_guard(host)
    assert_still_frozen(clocks)


def test_a_sleeping_thread_keeps_the_main_process_and_systemd_waiting(host: SystemdHost):
    clocks = start_guard(host, how="blocked")
    kill_guard(host)
    assert_still_frozen(clocks)


def test_fds_queued_on_the_units_stdin_reach_execstoppost(host: SystemdHost):
    clocks = start_guard(host, how="queued")
    host.check(["umount", "--lazy", "/data"])
    try:
        for command in ("daemon-reload", "daemon-reexec"):
            host.check(["systemctl", command])
        assert_thawed(clocks, kill_guard(host, "all"))
    finally:
        host.check(["mount", host.data_device, "/data"])


def test_stored_fds_reach_a_restarted_guard(host: SystemdHost):
    properties = (
        "KillMode=process",
        "Restart=on-failure",
        "RestartSec=0",
        "FileDescriptorStoreMax=8",
        "NotifyAccess=main",
    )
    clocks = start_guard(host, properties=properties, how="restarted")
    assert_thawed(clocks, kill_guard(host, "all"))


def test_the_unit_outlives_the_session_that_started_it(host: SystemdHost):
    login = "systemd-run --quiet --collect --unit=nap --property=KillMode=process sleep 613"
    argv = ["systemd-run", "--quiet", "--scope", "--unit=session-7", "sh", "-c"]
    with subprocess.Popen(
        ["podman", "exec", host.container, *argv, f"{login}; sleep 614"]
    ) as session:
        give_up = time.monotonic() + 10
        while not host.find("sleep 614") and time.monotonic() < give_up:
            time.sleep(0.05)
        host.check(["systemctl", "kill", "--kill-who=all", "--signal=KILL", "session-7.scope"])
        assert session.wait(10) != 0
    assert host.show("nap.service", "ActiveState") == "active"
    os.kill(host.main_pid("nap.service"), signal.SIGKILL)


FILL_JOURNAL = b"""\
import os, resource, socket, time
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
os.fork()  # The backlog is 4096: as many fds as one process may have.
kept = []
while len(kept) < limit - 16:
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    try:
        one.connect("/run/systemd/journal/stdout")
    except BlockingIOError:
        open("/run/journal-is-full", "w").close()
        break
    kept.append(one)
time.sleep(60)
"""


@pytest.mark.parametrize(("properties", "thaws"), [(QUIET, True), ((), False)])
def test_only_null_output_is_safe_from_a_stuck_journal(
    host: SystemdHost, properties: tuple[str, ...], thaws: bool
):
    full = host.outside("/run/journal-is-full")
    full.unlink(missing_ok=True)
    clocks = start_guard(host, properties=("KillMode=process", *properties))
    (journald,) = host.find("systemd-journald")
    os.kill(journald, signal.SIGSTOP)
    try:
        filler = ["systemd-run", "--quiet", "--collect", "--unit=filler"]
        filler += [f"--property={setting}" for setting in QUIET]
        host.put("/run/fill.py", FILL_JOURNAL)
        host.check([*filler, *PYTHON.split(), "/run/fill.py"])
        give_up = time.monotonic() + 10
        while not full.exists():
            assert time.monotonic() < give_up, "the journal still accepts connections"
            time.sleep(0.05)
        killed_at = kill_guard(host)
        if thaws:
            assert_thawed(clocks, killed_at)
        else:
            assert_still_frozen(clocks)
    finally:
        for pid in [*host.find("/run/fill.py"), *host.find("/run/thaw.py")]:
            os.kill(pid, signal.SIGKILL)
        os.kill(journald, signal.SIGCONT)


def test_a_reload_while_root_is_frozen_stops_pid_1(host: SystemdHost):
    clocks = start_guard(host, ("/data", "/"))
    with subprocess.Popen(["podman", "exec", host.container, "systemctl", "daemon-reload"]) as load:
        time.sleep(1)
        kill_guard(host, "all")
        assert_still_frozen(clocks)
        assert load.poll() is None
        host.thaw("/")
        assert load.wait(10) == 0
