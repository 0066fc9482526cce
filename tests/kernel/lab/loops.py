# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices: attaching them, finding those of a folder, and knowing whether they are in use."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from .commands import LabError, run

_LOOP_GET_STATUS64 = 0x4C05
_STATUS_SIZE = 232
_FILE_NAME = slice(56, 120)  # struct loop_info64.lo_file_name


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: where it is, which device it says, and its superblock's number."""

    mountpoint: str
    source: str
    number: str


def attach(image: Path, direct_io: bool = False, read_only: bool = False) -> str:
    """Attach ``image`` to a free loop device and return the device's path."""
    argv: list[str | Path] = ["losetup", "--find", "--show"]
    if direct_io:
        argv.append("--direct-io=on")
    if read_only:
        argv.append("--read-only")
    return run(*argv, image).stdout.strip()


def detach(device: str, patience: float = 3.0) -> bool:
    """Detach a loop device; false if something still used it after ``patience`` seconds."""
    run("losetup", "--detach", device, check=False)
    deadline = time.monotonic() + patience
    while is_attached(device):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_attached(device: str) -> bool:
    """Whether the loop device has a file behind it."""
    return (Path("/sys/block") / Path(device).name / "loop").exists()


def is_claimed(device: str) -> bool:
    """Whether a filesystem holds the device, be it mounted somewhere or only left behind."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise LabError(f"{device}: cannot be opened: {error.strerror}") from error
    return False


def loops_of(folder: Path) -> list[str]:
    """Return the loop devices whose file is, or was when attached, below ``folder``.

    The path in sysfs loses its beginning once the filesystem around the file is unmounted; only
    then is the name asked for that losetup had stored in the device.
    """
    prefix = f"{folder}/"
    found = []
    for entry in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        device = f"/dev/{entry.parent.parent.name}"
        try:
            names = [entry.read_text(errors="replace").rstrip("\n")]
            if not Path(names[0]).exists():
                names.append(_name_at_attach(device))
        except OSError:
            continue  # detached by its owner between the listing and the look
        if any(name.startswith(prefix) for name in names):
            found.append(device)
    return found


def _name_at_attach(device: str) -> str:
    status = bytearray(_STATUS_SIZE)
    fd = os.open(device, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, _LOOP_GET_STATUS64, status)
    finally:
        os.close(fd)
    return os.fsdecode(bytes(status[_FILE_NAME]).split(b"\0")[0])


def mounts(process: Path = Path("/proc/self")) -> list[Mount]:
    """Return the mounts in the namespace of ``process``, oldest first."""
    found = []
    for line in os.fsdecode((process / "mountinfo").read_bytes()).strip("\n").split("\n"):
        before, _dash, after = line.partition(" - ")
        if not after:
            continue  # nothing is mounted in the namespace of a kernel thread
        fields = before.split(" ")
        found.append(Mount(_plain(fields[4]), _plain(after.split(" ")[1]), fields[2]))
    return found


def _plain(escaped: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        escaped = escaped.replace(code, char)
    return escaped
