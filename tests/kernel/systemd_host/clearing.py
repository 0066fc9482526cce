# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clearing a test host away, whatever state it is in."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .commands import HostError, cache_folder, call

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878


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


def is_own_mount(path: Path) -> bool:
    """True if ``path`` is a mountpoint of another filesystem than the one it lies on."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def loop_devices(image: Path) -> list[str]:
    """Return the loop devices that the file ``image`` is attached to."""
    lines = call(["losetup", "-j", str(image)]).splitlines()
    return [line.partition(":")[0] for line in lines]


def init_pid(container: str) -> int:
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
    pid = init_pid(container)
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


def clear_away(folder: Path) -> None:
    """Thaw, stop and remove the host that lives in ``folder``, whatever is left of it."""
    images = {folder / "root.img": folder / "root", folder / "data.img": folder / "data"}
    fds: list[int] = []
    try:
        for image, mountpoint in images.items():
            devices = loop_devices(image)
            if devices and not is_own_mount(mountpoint):
                # Unmounted but perhaps frozen: only a mount leads to its superblock.
                mountpoint.mkdir(exist_ok=True)
                subprocess.run(
                    ["mount", devices[0], str(mountpoint)],
                    check=False,
                    capture_output=True,
                    timeout=60,
                )
            if is_own_mount(mountpoint):
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
        while is_own_mount(mountpoint):
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
        for device in loop_devices(image):
            subprocess.run(["losetup", "-d", device], check=False, capture_output=True, timeout=60)
    shutil.rmtree(folder)


@contextlib.contextmanager
def hosts_lock() -> Iterator[None]:
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
    with hosts_lock():
        for lock_file in sorted(cache_folder().glob("hosts/*/lock")):
            with contextlib.suppress(FileNotFoundError), lock_file.open("r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                clear_away(lock_file.parent)
                cleared.append(lock_file.parent.name)
    return cleared
