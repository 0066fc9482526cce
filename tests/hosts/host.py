# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One test host: namespaces, filesystems on loop devices, and an sshd with its own address."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel.lab import MIB, Lab, LabError, run
from tests.kernel.lab.loops import attach
from tests.kernel.lab.teardown import release
from tests.kernel.processes import children
from tests.kernel.systemd_host import FIFREEZE, thaw_fd

from .image import PASSWORD, USER, host_image

# 198.18.0.0/15 is set aside for tests of networks. The machine has one address on all links.
_MACHINE = "198.19.255.254"
_LINK = "quiesce"
_MOST = 1 << 16
# Long: a busy disk keeps a mount waiting.
_SECONDS = 120.0
# XFS takes no less than 300 MiB. All of them are sparse.
_SEPARATE_MIB = 320
_MKFS = {
    # All of it now, and nothing later in the background.
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
_NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid")
_START = Path(__file__).with_name("start.sh")
# Several hosts may be started at once, and the first makes what all of them use.
_preparing = threading.Lock()
# Made once: reading the kernel's types takes longer than a freeze may.
_reader = functools.cache(Reader)


class Host:
    """A running host; :func:`open_host` starts one.

    ``init`` is the machine's pid of its PID 1, ``address`` where its sshd listens, ``key`` the
    private key for root and for the unprivileged user, and ``paths`` its filesystems.
    """

    def __init__(self, name: str, folder: Path, key: Path, paths: Sequence[str]) -> None:
        self.name = name
        self.folder = folder
        self.key = key
        self.paths = tuple(paths)
        self.init = 0
        self.address = ""
        self._fds: dict[str, int] = {}
        self._timers: list[threading.Timer] = []

    def __str__(self) -> str:
        return self.name

    def variables(self, user: str = "root", **others: Any) -> dict[str, Any]:
        """What an inventory has to say of it; ``user`` is root, or USER, who may use sudo."""
        options = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"}
        options["LogLevel"] = "ERROR"
        return {
            "ansible_host": self.address,
            "ansible_user": user,
            "ansible_become": user != "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": " ".join(f"-o {k}={v}" for k, v in options.items()),
            "ansible_python_interpreter": "/usr/bin/python3",
            **others,
        }

    def images(self) -> dict[str, Path]:
        """Return the image behind each of its filesystems, which the machine can clone."""
        return {path: self.folder / f"{number}.img" for number, path in enumerate(self.paths)}

    def outside(self, path: str) -> Path:
        """Return where the machine sees the host's absolute ``path``."""
        return Path(f"/proc/{self.init}/root", path.lstrip("/"))

    def put(self, path: str, content: str) -> None:
        """Write a file in the host."""
        self.outside(path).write_text(content)

    def inside(self, *argv: str) -> list[str]:
        """Return the command of the machine that runs a command in the host, as root."""
        return ["nsenter", "--target", str(self.init), "--all", "--root", "--wd", *argv]

    def run(self, *argv: str, timeout: float = 30) -> str:
        """Run a command in the host, as root, and return its output; LabError if it fails."""
        return run(*self.inside(*argv), timeout=timeout).stdout

    def freeze(self, path: str, seconds: float = 20) -> None:
        """Freeze one of its filesystems from outside; all are thawed after ``seconds`` at most."""
        self.arm_thaw(seconds)
        fcntl.ioctl(self._fds[path], FIFREEZE, 0)

    def thaw(self) -> list[str]:
        """Thaw all of it from outside, now, and nothing later; return what was frozen."""
        while self._timers:
            self._timers.pop().cancel()
        return [path for path, fd in self._fds.items() if thaw_fd(fd)]

    def arm_thaw(self, seconds: float) -> None:
        """Thaw all of it after ``seconds``, whatever happens in the host."""
        timer = threading.Timer(seconds, self.thaw)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def frozen(self) -> list[str]:
        """Return which of its filesystems are frozen, as the kernel says."""
        return [path for path, state in self.states().items() if state == "frozen"]

    def states(self) -> dict[str, str]:
        """Return the state of each of its filesystems, as the kernel says."""
        reader = _reader()
        return {path: reader.state(fd) for path, fd in self._fds.items()}

    def cut(self) -> None:
        """Take its link down: from now on it does not answer, and nobody is told."""
        set_link(self.init, self.address, up=False)

    def mend(self) -> None:
        """Take its link up again."""
        set_link(self.init, self.address, up=True)

    # Starting and stopping

    def start(self, devices: dict[str, str]) -> None:
        """Start its PID 1 on these devices, and wait until its sshd answers."""
        root = self.folder / "root"
        root.mkdir(parents=True)
        others = [word for path in self.paths[1:] for word in (path, devices[path])]
        argv = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--propagation", "private"]
        argv += ["sh", str(_START), self.name, str(root), f"{self.key}.pub", devices["/"], *others]
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        # Its parent only waits for it, and nobody needs to wait for the parent.
        threading.Thread(target=process.wait, daemon=True).start()
        deadline = time.monotonic() + _SECONDS
        while not self.init:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{self}: did not start: {self._log()}")
            with contextlib.suppress(OSError, ValueError):
                (self.init,) = children(process.pid)
        self._connect()
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{self}: no sshd: {self._log()}")
            time.sleep(0.02)
        self._open()

    def stop(self) -> None:
        """Thaw all of it and kill all of its processes."""
        self.thaw()
        if self.init:
            with contextlib.suppress(ProcessLookupError):
                self._kill(os.pidfd_open(self.init))
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _kill(self, pidfd: int) -> None:
        with contextlib.closing(os.fdopen(pidfd)):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            deadline = time.monotonic() + _SECONDS
            # A guard may have been about to freeze: what it froze keeps its processes alive.
            while not select.select([pidfd], [], [], 0.05)[0]:
                self.thaw()
                if time.monotonic() > deadline:
                    raise LabError(f"{self}: its processes do not end")

    def _connect(self) -> None:
        """Give it a link to the machine, with an address for each end."""
        for number in itertools.count(1):
            link = f"{_LINK}{number}"
            if Path("/sys/class/net", link).exists():
                continue
            added = run(
                *("ip", "link", "add", link, "type", "veth"),
                *("peer", "name", "eth0", "netns", str(self.init)),
                check=False,
            )
            if added.returncode == 0:
                break
            if "exists" not in added.stderr or number == _MOST:
                raise LabError(f"{self}: no link: {added.stderr}")
        self.address = f"198.18.{number >> 8}.{number & 255}"
        run("ip", "address", "add", f"{_MACHINE}/32", "dev", link)
        run("ip", "link", "set", link, "up")
        run("ip", "route", "add", self.address, "dev", link, "src", _MACHINE)
        inside = _in_network(self.init)
        run(*inside, "ip", "link", "set", "lo", "up")
        run(*inside, "ip", "address", "add", f"{self.address}/32", "dev", "eth0")
        set_link(self.init, self.address, up=True)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.address, 22), 1) as sshd:
            return sshd.recv(4) == b"SSH-"
        return False

    def _open(self) -> None:
        """Open its filesystems, each of which must be one of its own."""
        seen = {os.stat("/").st_dev, os.stat(self.folder).st_dev}
        for path in self.paths:
            self._fds[path] = os.open(self.outside(path), os.O_RDONLY | os.O_DIRECTORY)
            device = os.fstat(self._fds[path]).st_dev
            if device in seen:
                raise LabError(f"{self}: {path} is no filesystem of its own")
            seen.add(device)
        for line in Path(f"/proc/{self.init}/mountinfo").read_text().splitlines():
            number = line.split()[2]
            if os.makedev(*map(int, number.split(":"))) not in seen and number[:2] != "0:":
                raise LabError(f"{self}: sees a filesystem of the machine: {line}")

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace").strip()


def set_link(init: int, address: str, up: bool) -> None:
    """Take the host's end of its link up or down.

    The machine's end stays as it is: with its route gone, packets would leave the machine.
    """
    inside = _in_network(init)
    run(*inside, "ip", "link", "set", "eth0", "up" if up else "down")
    if up:
        run(*inside, "ip", "route", "replace", _MACHINE, "dev", "eth0", "src", address)


def _in_network(init: int) -> tuple[str, ...]:
    return ("nsenter", f"--net=/proc/{init}/ns/net")


_numbers = itertools.count(1)


@contextmanager
def open_host(
    lab: Lab,
    *,
    suite: str | None = None,
    separate: Sequence[str] = (),
    fstypes: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Iterator[Host]:
    """Start a host with its images in ``lab``, and take it down at the end of the block.

    :param suite: the Debian release; the machine's own when not given.
    :param separate: folders that are filesystems of their own; one above another comes first.
    :param fstypes: which of these are ``xfs``; the others are ext4.
    :param name: its name, of which there is one in a lab; made up when not given.
    :raises LabError: a tool failed, or the host did not come up.
    """
    with _preparing:
        base = _in(lab, host_image(suite))
        key = _key(lab)
    name = name or _name()
    host = Host(name, lab.base.mountpoint / "hosts" / name, key, ("/", *separate))
    devices: dict[str, str] = {}
    try:
        host.folder.mkdir(parents=True)
        for path, image in host.images().items():
            if path == "/":
                run("cp", "--reflink=always", base, image)
            else:
                _make(lab, (fstypes or {}).get(path, "ext4"), image)
            devices[path] = attach(image)
        host.start(devices)
        yield host
    finally:
        host.stop()
        # Inner filesystems first: none is stored on another, so any order does.
        release(lab.folder, list(devices.values()))
        run("rm", "-rf", host.folder)


def _name() -> str:
    return f"host{next(_numbers)}"


def _in(lab: Lab, image: Path) -> Path:
    """The image as a file of the lab, where it can be cloned at once."""
    inside = lab.base.mountpoint / image.name
    if not inside.exists():
        draft = inside.with_suffix(".new")
        run("cp", "--sparse=always", image, draft, timeout=300)
        draft.rename(inside)
    return inside


def _make(lab: Lab, fstype: str, image: Path) -> None:
    """Make an empty filesystem; every ext4 is a clone of the first, which takes no time."""
    if fstype == "xfs":  # two of one UUID cannot be mounted at the same time
        _format(fstype, image)
        return
    empty = lab.base.mountpoint / f"empty.{fstype}"
    with _preparing:
        if not empty.exists():
            draft = empty.with_suffix(".new")
            _format(fstype, draft)
            draft.rename(empty)
    run("cp", "--reflink=always", empty, image)


def _format(fstype: str, image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(_SEPARATE_MIB * MIB)
    run(*_MKFS[fstype], image)


def _key(lab: Lab) -> Path:
    """The key that all hosts of a lab let in."""
    key = lab.folder / "key"
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    return key


__all__ = ["PASSWORD", "USER", "Host", "open_host"]
