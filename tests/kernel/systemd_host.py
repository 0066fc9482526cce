# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A test host on which systemd is PID 1 and whose ``/`` can be frozen for real.

It is a podman container whose root is a loop-mounted ext4 image of its own, so that nothing
which is frozen inside is a filesystem of the machine. The image is built once by debootstrap,
from the mirror that the machine's own apt uses, and copied for each host::

    with SystemdHost() as host:
        host.run(["systemctl", "is-system-running"])
        host.freeze("/data", seconds=10)      # thawed after 10 s whatever happens
        host.thaw("/data")
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878

SUITE_FALLBACK = "bookworm"
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "util-linux",
    "procps",
    "e2fsprogs",
    "xfsprogs",
)
"""What is on a test host beside debootstrap's minbase."""

MASKED = (
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "e2scrub_reap.service",
    "e2scrub_all.timer",
    "fstrim.timer",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
)
"""Units that would change the machine under the container, or disturb a measurement."""

DETACH_UNIT = """\
[Unit]
Description=Give this host its own /tmp, journal and /etc, and none of the machine's mounts
DefaultDependencies=no
Before=systemd-journald.service systemd-tmpfiles-setup.service sysinit.target

[Service]
Type=oneshot
ExecStart=-/bin/umount /etc/hostname
ExecStart=-/bin/umount /etc/hosts
ExecStart=-/bin/umount /etc/resolv.conf
ExecStart=-/bin/umount /run/.containerenv
ExecStart=-/bin/umount /var/log/journal
ExecStart=-/bin/umount /tmp

[Install]
WantedBy=sysinit.target
"""
"""podman mounts files of the machine, and tmpfs, over parts of ``/``: away with them."""

ROOT_SIZE_MIB = 1500
DATA_SIZE_MIB = 512
BOOT_SECONDS = 60.0

PACKAGE_OF_TOOL = {
    "podman": "podman",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "losetup": "mount",
    "nsenter": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
}


class HostError(RuntimeError):
    """The test host could not be built, started or looked at."""


def cache_folder() -> Path:
    """Return the folder of images and running hosts: ``$QUIESCE_CACHE`` or one in /var/cache."""
    return Path(os.environ.get("QUIESCE_CACHE") or "/var/cache/quiesce-tests").resolve()


def _call(argv: Sequence[str], timeout: float = 60.0) -> str:
    """Run a command of the machine and return its stdout; a failure carries its stderr."""
    done = subprocess.run(
        argv,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise HostError(f"{' '.join(argv)}: rc {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def _require(*tools: str) -> None:
    """Raise an error if this is not root, or one that names each package that is missing."""
    if os.geteuid() != 0:
        raise HostError("the systemd test host mounts filesystems and needs root")
    missing = sorted({PACKAGE_OF_TOOL[tool] for tool in tools if shutil.which(tool) is None})
    if missing:
        raise HostError(
            f"the systemd test host needs {', '.join(missing)}: apt-get install {' '.join(missing)}"
        )


# --- The image -----------------------------------------------------------------------------


def _release(key: str) -> str:
    """Return what /etc/os-release says of the machine; empty where it says nothing."""
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        name, _separator, value = line.partition("=")
        if name == key:
            return value.strip('"')
    return ""


def machine_suite() -> str:
    """Return the code name of the machine's own release."""
    return _release("VERSION_CODENAME") or SUITE_FALLBACK


def _mirror(suite: str) -> list[str]:
    """Return the mirror that the machine's apt fetches ``suite`` from, as an argument.

    Where that is not configured, another release of Debian is taken from the mirror of the
    machine's own. A machine that is not Debian leaves the choice to debootstrap.
    """
    uris = _call(["apt-get", "--print-uris", "update"])
    candidates = [suite]
    if _release("ID") == "debian":
        candidates.append(machine_suite())
    for each in candidates:
        found = re.search(rf"^'(\S+)/dists/{re.escape(each)}/InRelease'", uris, re.MULTILINE)
        if found is not None:
            return [found.group(1)]
    if _release("ID") == "debian":
        raise HostError(f"no apt source of this machine offers the release {suite}")
    return []


def _proxy_environment() -> dict[str, str]:
    """Return the environment with apt's own proxy, if it has one, for debootstrap's wget."""
    environment = dict(os.environ)
    for scheme in ("http", "https"):
        setting = _call(["apt-config", "shell", "P", f"Acquire::{scheme}::Proxy"]).strip()
        proxy = setting.removeprefix("P=").strip("'")
        if proxy and proxy != "DIRECT":
            environment[f"{scheme}_proxy"] = proxy
    return environment


def debootstrap(tree: Path, suite: str, packages: Sequence[str]) -> None:
    """Fill the folder ``tree`` with a root filesystem: minbase and ``packages``. About a minute."""
    # In a mount namespace of its own, an interrupted debootstrap leaves no /proc mounted.
    argv = ["unshare", "--mount", "--propagation", "private", "--fork", "--kill-child"]
    argv += ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}"]
    argv += [suite, str(tree), *_mirror(suite)]
    done = subprocess.run(
        argv,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        env=_proxy_environment(),
    )
    if done.returncode:
        raise HostError(f"debootstrap failed, rc {done.returncode}:\n{done.stdout[-4000:]}")
    shutil.rmtree(tree / "var/cache/apt/archives", ignore_errors=True)


def _bootstrap(tree: Path, suite: str) -> None:
    """Fill the folder ``tree`` with the root filesystem of a host with systemd."""
    debootstrap(tree, suite, PACKAGES)
    units = tree / "etc/systemd/system"
    for unit in MASKED:
        mask = units / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    (units / "quiesce-detach.service").write_text(DETACH_UNIT, encoding="ascii")
    wants = units / "sysinit.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "quiesce-detach.service").symlink_to("../quiesce-detach.service")
    (tree / "data").mkdir()
    (tree / "var/log/journal").mkdir(exist_ok=True)


def base_image() -> Path:
    """Return the ext4 image that hosts are copied from; build it if it is not there yet."""
    suite = machine_suite()
    recipe = [1, suite, PACKAGES, MASKED, DETACH_UNIT, ROOT_SIZE_MIB]
    fill = functools.partial(_bootstrap, suite=suite)
    return cached_image(f"systemd-{suite}", "systemd-*.ext4", recipe, ROOT_SIZE_MIB, fill)


def cached_image(
    name: str, outdated: str, recipe: object, size_mib: int, fill: Callable[[Path], None]
) -> Path:
    """Return the ext4 image with what ``fill`` puts in a folder; build it if it is not there yet.

    Its name holds a hash of the recipe. It appears under that name only when it is complete.
    Images of another recipe, which ``outdated`` matches, are deleted before a new one is built.
    Images of several names can be built at the same time.
    """
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
    cache = cache_folder()
    image = cache / f"{name}-{digest}.ext4"
    cache.mkdir(parents=True, exist_ok=True)
    build = cache / f"build-{name}.tmp"
    with build.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if image.exists():
            return image
        shutil.rmtree(build, ignore_errors=True)
        for other in cache.glob(outdated):
            other.unlink()
        build.mkdir(mode=0o700)
        try:
            fill(build / "tree")
            draft = build / "image"
            _call(
                ["mkfs.ext4", "-q", "-d", str(build / "tree"), str(draft), f"{size_mib}M"],
                timeout=300,
            )
            with draft.open("rb") as written:
                os.fsync(written.fileno())
            draft.rename(image)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return image


# --- Clearing away -------------------------------------------------------------------------


def thaw_fd(fd: int) -> bool:
    """Thaw the filesystem of an open fd, however many hold it. True if it was frozen.

    EINVAL also means "one holder of several is gone", hence more than one attempt.
    """
    thawed = False
    for _attempt in range(4):
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, FITHAW, 0)
            thawed = True
    return thawed


def _is_own_mount(path: Path) -> bool:
    """True if ``path`` is a mountpoint of another filesystem than the one it lies on."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def _loop_devices(image: Path) -> list[str]:
    """Return the loop devices that the file ``image`` is attached to."""
    lines = _call(["losetup", "-j", str(image)]).splitlines()
    return [line.partition(":")[0] for line in lines]


def _init_pid(container: str) -> int:
    """Return the pid of the container's init, 0 if it does not run or does not exist."""
    done = subprocess.run(
        ["podman", "inspect", "--type=container", "--format={{.State.Pid}}", container],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return int(done.stdout.strip() or 0) if done.returncode == 0 else 0


def _kill_init(container: str, fds: Sequence[int]) -> None:
    """Kill the container's init, and so all of its processes; thaw until the last is gone."""
    pid = _init_pid(container)
    if not pid:
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if container not in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii"):
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        give_up = time.monotonic() + 20
        while not select.select([pidfd], [], [], 0.05)[0]:
            for fd in fds:
                thaw_fd(fd)
            if time.monotonic() > give_up:
                raise HostError(f"process {pid}, init of {container}, survived SIGKILL for 20 s")
    except FileNotFoundError:
        return
    finally:
        os.close(pidfd)


def _clear_away(folder: Path) -> None:
    """Thaw, stop and remove the host that lives in ``folder``, whatever is left of it."""
    images = {folder / "root.img": folder / "root", folder / "data.img": folder / "data"}
    fds: list[int] = []
    try:
        for image, mountpoint in images.items():
            devices = _loop_devices(image)
            if devices and not _is_own_mount(mountpoint):
                # Unmounted but perhaps frozen: only a mount leads to its superblock.
                mountpoint.mkdir(exist_ok=True)
                subprocess.run(
                    ["mount", devices[0], str(mountpoint)],
                    check=False,
                    capture_output=True,
                    timeout=60,
                )
            if _is_own_mount(mountpoint):
                fds.append(os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY))
        for fd in fds:
            thaw_fd(fd)
        container_id = folder / "id"
        if container_id.exists():
            container = container_id.read_text(encoding="ascii").strip()
            _kill_init(container, fds)
            subprocess.run(
                ["podman", "rm", "--force", "--ignore", "--time", "0", container],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
            )
        for fd in fds:
            thaw_fd(fd)
    finally:
        for fd in fds:
            os.close(fd)
    for mountpoint in images.values():
        give_up = time.monotonic() + 10
        while _is_own_mount(mountpoint):
            done = subprocess.run(
                ["umount", str(mountpoint)],
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if done.returncode and time.monotonic() > give_up:
                raise HostError(f"cannot unmount {mountpoint}: {done.stderr.strip()}")
            if done.returncode:
                time.sleep(0.1)
    for image in images:
        for device in _loop_devices(image):
            subprocess.run(["losetup", "-d", device], check=False, capture_output=True, timeout=60)
    shutil.rmtree(folder)


@contextlib.contextmanager
def _hosts_lock() -> Iterator[None]:
    """Keep others from making a host's folder or clearing one away."""
    hosts = cache_folder() / "hosts"
    hosts.mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "hosts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def clear_left_overs() -> list[str]:
    """Clear away the hosts of runs that are no more; return their names.

    A host's owner holds a lock on its folder for as long as it lives.
    """
    cleared = []
    with _hosts_lock():
        for lock_file in sorted(cache_folder().glob("hosts/*/lock")):
            with contextlib.suppress(FileNotFoundError), lock_file.open("r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                _clear_away(lock_file.parent)
                cleared.append(lock_file.parent.name)
    return cleared


# --- When a thaw happened ------------------------------------------------------------------

_SLEEPER = """\
import os, sys, time
print(flush=True)
try:
    os.unlink(sys.argv[1])
except FileNotFoundError:
    print(time.monotonic(), flush=True)
"""


class ThawClock:
    """Tells when a frozen filesystem was thawed: a process that slept on it notes the time.

    It unlinks a name that does not exist: that waits for the thaw and changes nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Put a process to sleep in ``folder``, which is on a filesystem that is frozen now."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SLEEPER, str(folder / "no-such-name")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout is not None:
            self._process.stdout.readline()

    def wait(self, seconds: float) -> float | None:
        """Return the ``time.monotonic()`` of the thaw; None if there is none in ``seconds``."""
        try:
            noted, _nothing = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        return float(noted)


# --- The host ------------------------------------------------------------------------------


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
        _require("podman", "runc", "debootstrap", "losetup", "nsenter", f"mkfs.{self.data_fstype}")
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
                _clear_away(self.folder)

    def _make_folder(self) -> None:
        """Make the host's folder, locked before anybody else can take it for a left-over."""
        with _hosts_lock():
            self.folder.mkdir()
            lock = self._resources.enter_context((self.folder / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)

    def _mount(self, base: Path) -> None:
        """Make the images of / and /data and mount them, each on a loop device."""
        root_image = self.folder / "root.img"
        data_image = self.folder / "data.img"
        _call(["cp", "--reflink=auto", "--sparse=always", str(base), str(root_image)], 300)
        with data_image.open("wb") as image:
            image.truncate(DATA_SIZE_MIB << 20)
        _call([f"mkfs.{self.data_fstype}", "-q", str(data_image)])
        self.device = _call(["losetup", "--find", "--show", str(root_image)]).strip()
        self.data_device = _call(["losetup", "--find", "--show", str(data_image)]).strip()
        mounts = {"/": (self.device, self.root), "/data": (self.data_device, self.data)}
        for inside, (device, mountpoint) in mounts.items():
            mountpoint.mkdir()
            _call(["mount", device, str(mountpoint)])
            if not _is_own_mount(mountpoint):
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
        self.container = _call(argv, 120).strip()
        self.init = _init_pid(self.container)

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
