# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd test host works, and systemd does what the guard relies on.

The second half pins which settings of a transient unit make systemd thaw within a second after
the guard was killed, and in which cases systemd alone is not enough.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel import systemd_host as module
from tests.kernel.systemd_host import HostError, SystemdHost, ThawClock

pytest_plugins = ["tests.kernel.systemd_fixture"]

THAW_WITHIN = 1.0
STILL_FROZEN_AFTER = 2.5
REPOSITORY = Path(__file__).parents[2]

GUARD = b"""\
import array, fcntl, os, socket, subprocess, sys, threading, time
how, paths = sys.argv[1], sys.argv[2:]
fds = [os.open(path, os.O_RDONLY) for path in paths]
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
if how == "restarted" and "LISTEN_FDS" in os.environ:
    for number in range(int(os.environ["LISTEN_FDS"])):
        fcntl.ioctl(3 + number, 0xC0045878, 0)
    sys.exit()
if how == "restarted":
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.sendmsg([b"FDSTORE=1"], rights)
    time.sleep(0.2)
if how == "queued":
    socket.socket(fileno=1).sendmsg([b"fds"], rights)
for fd in fds:
    fcntl.ioctl(fd, 0xC0045877, 0)
SLEEPER = "import os, sys; os.unlink(sys.argv[1])"
for path in paths:
    subprocess.Popen([sys.executable, "-ISBc", SLEEPER, path + "/no-such-name"], stderr=-3)
if how == "blocked":
    threading.Thread(target=os.unlink, args=[paths[0] + "/no-such-name"]).start()
with open("/run/guard-is-up", "w"):
    time.sleep(600)
"""

THAW = b"""\
import array, fcntl, os, socket, sys
if sys.argv[1:]:
    fds = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
else:
    _data, messages, _flags, _address = socket.socket(fileno=0).recvmsg(16, 4096)
    fds = array.array("i", messages[0][2])
for fd in fds:
    fcntl.ioctl(fd, 0xC0045878, 0)
"""

LAUNCH = b"""\
import os, socket, subprocess, sys, time
ours, units = socket.socketpair()
client = subprocess.Popen(sys.argv[1:], stdin=units, stdout=ours, stderr=subprocess.DEVNULL)
while not os.path.exists("/run/guard-is-up"):
    time.sleep(0.01)
client.kill()
"""

PYTHON = "/usr/bin/python3 -I -S -B"
QUIET = ("StandardOutput=null", "StandardError=null")


@pytest.fixture
def host(thawed_systemd_host: SystemdHost) -> Iterator[SystemdHost]:
    """The host with the scripts of these tests in /run; afterwards without their processes."""
    one = thawed_systemd_host
    one.put("/run/guard.py", GUARD)
    one.put("/run/thaw.py", THAW)
    one.put("/run/launch.py", LAUNCH)
    try:
        yield one
    finally:
        one.disarm_thaw()
        one.run(["systemctl", "stop", "guard.service"])
        one.run(["systemctl", "reset-failed"])
        for pid in one.find("/run/guard.py"):
            os.kill(pid, signal.SIGKILL)


def start_guard(
    host: SystemdHost,
    paths: tuple[str, ...] = ("/data",),
    properties: tuple[str, ...] = ("KillMode=process", *QUIET),
    how: str = "plain",
) -> dict[str, ThawClock]:
    """Start a guard as a transient unit; it freezes ``paths`` and has a child asleep on each.

    Returns a clock for each path. Whatever the test does, all is thawed after 20 s.
    """
    up = host.outside("/run/guard-is-up")
    up.unlink(missing_ok=True)
    argv = ["systemd-run", "--quiet", "--collect", "--unit=guard"]
    argv += [f"--property={setting}" for setting in properties]
    if how == "queued":
        argv = [host.python, "-B", "/run/launch.py", *argv, "--pipe"]
        argv += [f"--property=ExecStopPost={PYTHON} /run/thaw.py"]
    elif how != "restarted":
        argv += [f"--property=ExecStopPost={PYTHON} /run/thaw.py {' '.join(paths)}"]
    host.arm_thaw(20)
    host.check([*argv, *PYTHON.split(), "/run/guard.py", how, *paths])
    give_up = time.monotonic() + 10
    while not up.exists():
        assert time.monotonic() < give_up, "the guard did not start"
        time.sleep(0.01)
    clocks = {path: ThawClock(host.outside_mount(path)) for path in paths}
    time.sleep(0.2)
    return clocks


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


# --- The host ------------------------------------------------------------------------------


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
    assert not (module.cache_folder() / "hosts" / name).exists()
    assert name not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    for argv in (["losetup", "--list"], ["podman", "ps", "--all"]):
        listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert name not in listed


def test_a_host_is_gone_afterwards_even_if_frozen(new_systemd_host: Callable[..., SystemdHost]):
    host = new_systemd_host(data_fstype="xfs", persistent_journal=False)
    assert host.check(["findmnt", "-no", "FSTYPE", "/data"]) == "xfs\n"
    host.put("/run/guard.py", GUARD)
    host.put("/run/thaw.py", THAW)
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
    assert name not in module.clear_left_overs()
    run.kill()
    run.communicate()
    assert name in module.clear_left_overs()
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
    monkeypatch.setattr(module, "ROOT_SIZE_MIB", 8)
    build = f"build-systemd-{module.machine_suite()}"
    (tmp_path / f"{build}.tmp").mkdir()
    (tmp_path / "systemd-old-recipe.ext4").touch()
    monkeypatch.setattr(module, "_bootstrap", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.base_image()
    assert [path.name for path in tmp_path.iterdir()] == [f"{build}.lock"]
    monkeypatch.setattr(module, "_bootstrap", short)
    image = module.base_image()
    monkeypatch.setattr(module, "_bootstrap", interrupted)
    assert module.base_image() == image


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=r"apt-get install .*debootstrap .*podman runc"):
        SystemdHost().__enter__()


# --- What systemd does for a guard that is killed -------------------------------------------


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
