# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a lab down again, whatever state a test or a crash has left it in.

Nothing here trusts what a lab remembers: loop devices are found by the folder their file is in,
mounts by their device. The order is always thaw, end processes, unmount, detach.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .commands import LabError, run
from .loops import Mount, detach, is_attached, is_claimed, loops_of, mounts

PREFIX = "quiesce-lab-"
LOCK = "lock"
_THAW_SECONDS = 30.0
_END_SECONDS = 5.0
_RELEASE_SECONDS = 15.0


def leftovers(folder: Path) -> list[str]:
    """Say what of the lab in ``folder`` is still there, one sentence for each; empty when clean."""
    devices = loops_of(folder)
    found = [f"{device} is still attached" for device in devices]
    for mount in _mounts_of(folder, devices):
        found.append(f"{mount.source} is still mounted on {mount.mountpoint}")
    for device in devices:
        if is_claimed(device):
            found.append(f"{device} is still held by a filesystem")
    if folder.exists():
        found.append(f"{folder} still exists")
    return found


def tear_down(folder: Path) -> None:
    """Thaw, unmount, detach and delete everything of the lab in ``folder``.

    :raises LabError: something could not be taken down; the text names all of it.
    """
    devices = loops_of(folder)
    release(folder, devices)
    if not leftovers_but_folder(folder):
        shutil.rmtree(folder, ignore_errors=True)
    left = leftovers(folder)
    if left:
        raise LabError("the lab could not be taken down: " + "; ".join(left))


def leftovers_but_folder(folder: Path) -> list[str]:
    """Return what :func:`leftovers` finds, apart from the folder itself."""
    return [line for line in leftovers(folder) if not line.startswith(str(folder))]


def remove_crashed_labs(parent: Path) -> list[Path]:
    """Take down the labs under ``parent`` whose owner is gone, and return their folders.

    A living lab holds a lock on a file in its folder; the lock goes with the process.
    """
    removed = []
    for folder in sorted(parent.glob(PREFIX + "*")):
        try:
            fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue  # gone in the meantime
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            tear_down(folder)
            removed.append(folder)
        finally:
            os.close(fd)
    return removed


def release(folder: Path, devices: Sequence[str], also_thaw: Sequence[str] = ()) -> None:
    """Thaw what is on ``devices``, end the processes that use it, unmount it and detach them.

    It does what can be done and raises nothing over the rest: see :func:`leftovers`.

    :param also_thaw: mount points of filesystems that only have to be thawed, because what is on
        ``devices`` is stored on them.
    """
    deadline = time.monotonic() + _RELEASE_SECONDS
    devices = _own(folder, devices)
    # One more filesystem comes free in each round: first the innermost, then what it was stored on.
    while True:
        _mount_hidden(devices, folder / "rescue")
        mine = _mounts_of(folder, devices)
        _thaw([*(mount.mountpoint for mount in mine), *also_thaw])
        _end_users(mine)
        for mount in reversed(mine):
            run("umount", mount.mountpoint, check=False)
        _unmount_elsewhere(devices)
        for device in devices:
            if is_attached(device) and not is_claimed(device):
                detach(device)
        devices = _own(folder, devices)
        if not devices or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _own(folder: Path, devices: Sequence[str]) -> list[str]:
    """Return which of ``devices`` are the lab's: one that came free may be another's by now."""
    own = loops_of(folder)
    return [device for device in devices if device in own]


def _mounts_of(folder: Path, devices: Iterable[str]) -> list[Mount]:
    """Return the mounts below ``folder`` that are on ``devices``, and these devices' elsewhere."""
    wanted = set(devices)
    every = loops_of(folder)
    return [
        mount
        for mount in mounts()
        if mount.source in wanted
        or (mount.source not in every and mount.mountpoint.startswith(f"{folder}/"))
    ]


def _unmount_elsewhere(devices: Sequence[str]) -> None:
    """Unmount what other mount namespaces have of ``devices``.

    A namespace begins with a copy of all mounts, wanted or not, and that holds the filesystem.
    """
    seen = {os.readlink("/proc/self/ns/mnt")}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            namespace = os.readlink(process / "ns" / "mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            found = mounts(process)
        except OSError:
            continue  # ended in the meantime
        for mount in reversed(found):
            if mount.source in devices:
                enter = f"--mount={process}/ns/mnt"
                run("nsenter", enter, "umount", "--lazy", mount.mountpoint, check=False)


def _mount_hidden(devices: Iterable[str], rescue: Path) -> None:
    """Mount again what holds a device without being mounted, so that it has a path to thaw it by.

    A filesystem that was unmounted while frozen lives on inside the kernel.
    """
    visible = {mount.source for mount in mounts()}
    for device in devices:
        if device in visible or not is_attached(device) or not is_claimed(device):
            continue
        target = rescue / Path(device).name
        target.mkdir(parents=True, exist_ok=True)
        if run("mount", device, target, check=False).returncode != 0:
            run("mount", "-o", "ro", device, target, check=False)


def _thaw(mountpoints: Iterable[str]) -> None:
    """Thaw all of these at once.

    At once, because the thaw of a filesystem writes to what it is stored on and waits for that to
    be thawed: side by side, the order does not matter.
    """
    running = [
        subprocess.Popen(
            ["fsfreeze", "--unfreeze", mountpoint],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for mountpoint in dict.fromkeys(mountpoints)
    ]
    deadline = time.monotonic() + _THAW_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{process.args!r}: still running after {_THAW_SECONDS} s") from error


def _end_users(mine: Iterable[Mount]) -> None:
    """End every process, but this one, that has a file or folder of these mounts open."""
    devices = set()
    for mount in mine:
        try:
            device = os.stat(mount.mountpoint).st_dev
            if device != os.stat(os.path.dirname(mount.mountpoint)).st_dev:
                devices.add(device)
        except OSError:
            continue  # overmounted or gone: unmounting will tell
    if not devices:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _END_SECONDS
        users = _users(devices)
        for pid in users:
            _signal(pid, number)
        while users and time.monotonic() < deadline:
            time.sleep(0.02)
            users = _users(devices)
        if not users:
            return


def _users(devices: set[int]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _uses(entry, devices):
            found.append(int(entry.name))
    return found


def _uses(process: Path, devices: set[int]) -> bool:
    links = [process / "cwd", process / "root", process / "exe"]
    try:
        links.extend((process / "fd").iterdir())
    except OSError:
        return False  # ended in the meantime
    for link in links:
        try:
            if os.stat(link).st_dev in devices:
                return True
        except OSError:
            continue
    return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
