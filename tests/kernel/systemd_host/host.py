# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running test host with systemd as PID 1."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from .clearing import (
    FIFREEZE,
    clear_away,
    clear_left_overs,
    hosts_lock,
    init_pid,
    is_own_mount,
    thaw_fd,
)
from .commands import HostError, cache_folder, call, require
from .image import base_image

DATA_SIZE_MIB = 512
BOOT_SECONDS = 60.0


class SystemdHost:
    """One running host with systemd as PID 1. Use it in a ``with`` statement.

    ``root`` and ``data`` are its ``/`` and ``/data`` as seen from the machine, ``device`` and
    ``data_device`` their loop devices, ``init`` the machine's pid of its PID 1, and ``python``
    its interpreter. Its journal is on ``/`` (persistent, as on a stock host) or in ``/run``.
    """

    python = "/usr/bin/python3"

    def __init__(self, data_fstype: str = "ext4", persistent_journal: bool = True) -> None:
        """Take the type of the filesystem on /data (ext4, xfs, btrfs) and the journal's place."""
        self.data_fstype = data_fstype
        self.persistent_journal = persistent_journal
        self.name = f"quiesce-{uuid.uuid4().hex[:10]}"
        self.folder = cache_folder() / "hosts" / self.name
        self.root = self.folder / "root"
        self.data = self.folder / "data"
        self.device = ""
        self.data_device = ""
        self.container = ""
        self.init = 0
        self._fds: dict[str, int] = {}
        self._timers: list[threading.Timer] = []
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> SystemdHost:
        """Start the host and wait until systemd has finished booting. Takes about 3 s."""
        require("podman", "runc", "debootstrap", "losetup", "nsenter", f"mkfs.{self.data_fstype}")
        base = base_image()
        clear_left_overs()
        try:
            self._make_folder()
            self._mount(base)
            self._start()
            self._wait_for_boot()
            self._check_mounts()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Thaw, stop and remove the host."""
        self.close()

    def close(self) -> None:
        """Thaw, stop and remove the host, whatever state it is in. Also twice."""
        self.disarm_thaw()
        while self._fds:
            os.close(self._fds.popitem()[1])
        with self._resources:
            if self.folder.exists():
                clear_away(self.folder)

    def _make_folder(self) -> None:
        """Make the host's folder, locked before anybody else can take it for a left-over."""
        with hosts_lock():
            self.folder.mkdir()
            lock = self._resources.enter_context((self.folder / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)

    def _mount(self, base: Path) -> None:
        """Make the images of / and /data and mount them, each on a loop device."""
        root_image = self.folder / "root.img"
        data_image = self.folder / "data.img"
        call(["cp", "--reflink=auto", "--sparse=always", str(base), str(root_image)], 300)
        with data_image.open("wb") as image:
            image.truncate(DATA_SIZE_MIB << 20)
        call([f"mkfs.{self.data_fstype}", "-q", str(data_image)])
        self.device = call(["losetup", "--find", "--show", str(root_image)]).strip()
        self.data_device = call(["losetup", "--find", "--show", str(data_image)]).strip()
        mounts = {"/": (self.device, self.root), "/data": (self.data_device, self.data)}
        for inside, (device, mountpoint) in mounts.items():
            mountpoint.mkdir()
            call(["mount", device, str(mountpoint)])
            if not is_own_mount(mountpoint):
                raise HostError(f"{mountpoint} is not a filesystem of its own after the mount")
            self._fds[inside] = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        # A random id: with an empty one systemd goes through a first boot.
        self.put("/etc/machine-id", f"{uuid.uuid4().hex}\n".encode())
        storage = "persistent" if self.persistent_journal else "volatile"
        self.put(
            "/etc/systemd/journald.conf.d/quiesce.conf", f"[Journal]\nStorage={storage}\n".encode()
        )

    def _start(self) -> None:
        """Start the container. Its limits are named, as runc may not raise podman's own."""
        argv = ["podman", "run", "--detach", "--name", self.name, "--hostname", self.name]
        argv += ["--cidfile", str(self.folder / "id"), "--log-driver", "none"]
        argv += ["--runtime", "runc", "--privileged", "--systemd", "always", "--network", "none"]
        argv += ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"]
        argv += ["--volume", f"{self.data}:/data"]
        argv += ["--rootfs", str(self.root), "/sbin/init"]
        self.container = call(argv, 120).strip()
        self.init = init_pid(self.container)

    def _wait_for_boot(self) -> None:
        """Wait until systemd says ``running`` or ``degraded``."""
        give_up = time.monotonic() + BOOT_SECONDS
        answer = ""
        while time.monotonic() < give_up:
            done = self.run(["systemctl", "is-system-running"], timeout=BOOT_SECONDS)
            answer = (done.stdout + done.stderr).strip()
            if answer in ("running", "degraded"):
                return
            time.sleep(0.1)
        raise HostError(f"systemd has not booted within {BOOT_SECONDS:.0f} s: {answer}")

    def _check_mounts(self) -> None:
        """Refuse a host that sees a mounted block device other than its own two."""
        own = {os.fstat(fd).st_dev for fd in self._fds.values()}
        mountinfo = Path(f"/proc/{self.init}/mountinfo").read_text(encoding="utf-8")
        for line in mountinfo.splitlines():
            fields, _separator, source = line.partition(" - ")
            mountpoint = fields.split()[4]
            on_block_device = source.split()[1].startswith("/dev/")
            if on_block_device and os.stat(f"/proc/{self.init}/root{mountpoint}").st_dev not in own:
                raise HostError(f"{mountpoint} in the host is a filesystem of the machine: {line}")

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = 30.0,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host, as root, and return what it did, whatever its rc.

        ``input`` goes to its stdin. After ``timeout`` seconds: subprocess.TimeoutExpired; the
        command itself is then left to itself in the host.
        """
        command = ["podman", "exec"]
        for name, value in (environment or {}).items():
            command += ["--env", f"{name}={value}"]
        if input is not None:
            command.append("--interactive")
        command += [self.container, *argv]
        return subprocess.run(
            command,
            check=False,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def check(self, argv: Sequence[str], *, input: str | None = None, timeout: float = 30.0) -> str:
        """Run a command that must succeed in the host and return its stdout."""
        done = self.run(argv, input=input, timeout=timeout)
        if done.returncode:
            raise HostError(f"{list(argv)}: rc {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def outside(self, path: str) -> Path:
        """Return where the machine sees the host's absolute ``path``.

        In a running host that is through its PID 1, so that its tmpfs (/run) are there too.
        """
        start = Path(f"/proc/{self.init}/root") if self.init else self.root
        return start / path.lstrip("/")

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file in the host, with the folders above it.

        No part of ``path`` may be an absolute symlink: from outside it would lead elsewhere.
        """
        target = self.outside(path)
        existing = next(parent for parent in target.parents if parent.exists())
        if existing.stat().st_dev == os.stat("/").st_dev:
            raise HostError(f"{path} leads out of the host")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)

    def outside_mount(self, path: str) -> Path:
        """Return where the machine has mounted the host's ``/`` or ``/data``."""
        return {"/": self.root, "/data": self.data}[path]

    def arm_thaw(self, seconds: float) -> None:
        """Thaw ``/`` and ``/data`` after ``seconds``, whatever the test does."""
        timer = threading.Timer(seconds, lambda: [self.thaw(path) for path in ("/", "/data")])
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def disarm_thaw(self) -> None:
        """Thaw ``/`` and ``/data`` now and none of them later."""
        while self._timers:
            self._timers.pop().cancel()
        for path in self._fds:
            self.thaw(path)

    def freeze(self, path: str, seconds: float = 20.0) -> None:
        """Freeze ``/`` or ``/data`` by FIFREEZE; all is thawed after ``seconds`` at the latest."""
        self.arm_thaw(seconds)
        fcntl.ioctl(self._fds[path], FIFREEZE, 0)

    def thaw(self, path: str) -> bool:
        """Thaw ``/`` or ``/data`` from outside. True if it was frozen."""
        fd = self._fds.get(path)
        return fd is not None and thaw_fd(fd)

    def processes(self) -> Iterator[tuple[int, int, str]]:
        """Yield ``(pid outside, pid inside, command line)`` of each process of the host."""
        namespace = os.readlink(f"/proc/{self.init}/ns/pid")
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if os.readlink(entry / "ns/pid") != namespace:
                    continue
                status = (entry / "status").read_text(encoding="utf-8", errors="replace")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            inside = re.search(r"^NSpid:.*\s(\d+)$", status, re.MULTILINE)
            if inside is not None:
                yield int(entry.name), int(inside.group(1)), command

    def pid(self, inside: int) -> int:
        """Return the machine's pid of the process that the host knows as ``inside``."""
        for outside, candidate, _command in self.processes():
            if candidate == inside:
                return outside
        raise ProcessLookupError(f"{self.name} has no process {inside}")

    def find(self, text: str) -> list[int]:
        """Return the machine's pids of the host's processes with ``text`` in the command line."""
        return sorted(outside for outside, _inside, command in self.processes() if text in command)

    def main_pid(self, unit: str) -> int:
        """Return the machine's pid of the main process of a unit that runs."""
        inside = int(self.show(unit, "MainPID"))
        if not inside:
            raise ProcessLookupError(f"{unit} of {self.name} has no main process")
        return self.pid(inside)

    def show(self, unit: str, what: str) -> str:
        """Return one property of a unit, as ``systemctl show`` prints it."""
        return self.check(["systemctl", "show", "--value", "--property", what, unit]).strip()
