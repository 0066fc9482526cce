# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard of a few lines, to find out what systemd does for one that is killed."""

from __future__ import annotations

import os
import signal
import time

from tests.kernel.systemd_host import SystemdHost, ThawClock

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


def put_scripts(host: SystemdHost) -> None:
    """Put what ``start_guard`` needs in the host's /run."""
    host.put("/run/guard.py", GUARD)
    host.put("/run/thaw.py", THAW)
    host.put("/run/launch.py", LAUNCH)


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


def end_guard(host: SystemdHost) -> None:
    """Thaw, and leave nothing of the guard behind."""
    host.disarm_thaw()
    host.run(["systemctl", "stop", "guard.service"])
    host.run(["systemctl", "reset-failed"])
    for pid in host.find("/run/guard.py"):
        os.kill(pid, signal.SIGKILL)
