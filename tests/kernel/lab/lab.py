# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real filesystems on loop devices, stored on a base that can clone their images at once."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .commands import LabError, run
from .loops import attach, is_attached, loops_of
from .teardown import LOCK, PREFIX, release, remove_crashed_labs, tear_down

MIB = 1 << 20
GIB = 1 << 30

FSTYPES = ("ext4", "xfs", "btrfs")
TOOLS = {
    "fsfreeze": "util-linux",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "fio": "fio",
}

_MKFS: dict[str, tuple[str, ...]] = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
_PARENT_LENGTH = 39
# A snapshot carries its original's UUID, which XFS refuses to mount twice.
_CLONE_OPTIONS = {"xfs": ("nouuid",)}
_UNATTENDED_THAW = (
    "import subprocess, sys, time; time.sleep(float(sys.argv[1])); "
    "subprocess.call(['fsfreeze', '--unfreeze', sys.argv[2]])"
)


@dataclass
class Filesystem:
    """One filesystem of the lab: an image file on a loop device, mounted.

    ``image``, ``device`` (such as ``/dev/loop3``) and ``mountpoint`` say where it is; ``on`` is the
    filesystem that its image is stored on, None for the base.
    """

    name: str
    fstype: str
    image: Path
    device: str
    mountpoint: Path
    folder: Path
    on: Filesystem | None = None
    options: Sequence[str] = ()
    _snapshots: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def __str__(self) -> str:
        return str(self.mountpoint)

    @property
    def number(self) -> str:
        """The loop device's ``MAJOR:MINOR``."""
        rdev = os.stat(self.device).st_rdev
        return f"{os.major(rdev)}:{os.minor(rdev)}"

    def freeze(self, timeout: float = 60) -> None:
        """Freeze it as a stranger would, with util-linux; LabError if that fails."""
        run("fsfreeze", "--freeze", self.mountpoint, timeout=timeout)

    def thaw(self, timeout: float = 60) -> bool:
        """Thaw it with util-linux; true if it had been frozen."""
        argv = ("fsfreeze", "--unfreeze", self.mountpoint)
        return run(*argv, timeout=timeout, check=False).returncode == 0

    @contextmanager
    def frozen(self, at_most: float = 60) -> Iterator[None]:
        """Freeze it for the length of the block, and ``at_most`` seconds if this process dies."""
        watch = subprocess.Popen(
            [sys.executable, "-c", _UNATTENDED_THAW, str(at_most), str(self.mountpoint)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self.freeze(timeout=at_most)
            yield
        finally:
            self.thaw()
            watch.kill()
            watch.wait()

    def mount(self) -> None:
        """Mount it on its mount point."""
        options = ("-o", ",".join(self.options)) if self.options else ()
        run("mount", "-t", self.fstype, *options, self.device, self.mountpoint)

    def unmount(self, lazy: bool = False) -> None:
        """Unmount it, which a frozen filesystem allows; it stays frozen then."""
        run("umount", *(("--lazy",) if lazy else ()), self.mountpoint)

    def snapshot(self, name: str | None = None) -> Path:
        """Clone its image at once, frozen or not, and return the path of the clone.

        Its own image must be on a filesystem with reflinks, as the base is. Every clone makes the
        image's extents shared and the next clone slower: delete them soon.
        """
        copy = self.image.with_name(f"{self.image.stem}@{name or next(self._snapshots)}.img")
        if copy.exists():
            raise LabError(f"{copy}: a snapshot of this name exists")
        run("cp", "--reflink=always", self.image, copy)
        return copy


class Lab:
    """A folder with a base filesystem that knows reflinks, and filesystems made on it.

    Use :func:`open_lab`; it also takes everything down again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = itertools.count(1)
        self._base: Filesystem | None = None

    @property
    def base(self) -> Filesystem:
        """The XFS with reflinks that all images are stored on."""
        if self._base is None:
            raise LabError("the lab is not open")
        return self._base

    def open(self, size: int) -> None:
        """Make and mount the base, in a sparse file of ``size`` bytes."""
        self._base = self._make("base", "xfs", size, None, ("-m", "reflink=1"), (), False)

    @contextmanager
    def filesystem(
        self,
        fstype: str,
        size: int = 512 * MIB,
        *,
        name: str | None = None,
        on: Filesystem | None = None,
        mkfs: Sequence[str] = (),
        options: Sequence[str] = (),
        direct_io: bool = False,
    ) -> Iterator[Filesystem]:
        """Make a filesystem, mount it, and take it down at the end of the block.

        :param fstype: ``ext4``, ``xfs`` (300 MiB at least) or ``btrfs``.
        :param size: bytes of the sparse image.
        :param name: name of image and mount point, made up when not given.
        :param on: a filesystem of the lab to store the image on; the base when not given.
        :param mkfs: more arguments for mkfs.
        :param options: mount options.
        :param direct_io: let the loop device bypass the page cache of what it is stored on.
        :raises LabError: a tool failed.
        """
        label = name or f"{fstype}-{next(self._names)}"
        made = self._make(label, fstype, size, on or self.base, mkfs, options, direct_io)
        try:
            yield made
        finally:
            self._close(made)

    @contextmanager
    def mounted(self, snapshot: Path, fstype: str, read_only: bool = False) -> Iterator[Path]:
        """Mount a clone of ``snapshot`` for the length of the block; the snapshot stays untouched.

        The mount replays the log of the clone, as a restore would.

        :param read_only: let nothing be written through the mount.
        """
        label = f"{snapshot.stem}-clone-{next(self._names)}"
        image = snapshot.with_name(f"{label}.img")
        options = (*_CLONE_OPTIONS.get(fstype, ()), *(("ro",) if read_only else ()))
        run("cp", "--reflink=always", snapshot, image)
        clone = Filesystem(label, fstype, image, "", self._mountpoint(label), self.folder)
        clone.options = options
        try:
            clone.device = attach(image)
            clone.mount()
            yield clone.mountpoint
        finally:
            self._close(clone)

    def _mountpoint(self, label: str) -> Path:
        path = self.folder / "mnt" / label
        path.mkdir(parents=True)
        return path

    def _make(
        self,
        label: str,
        fstype: str,
        size: int,
        on: Filesystem | None,
        mkfs: Sequence[str],
        options: Sequence[str],
        direct_io: bool,
    ) -> Filesystem:
        image = (on.mountpoint if on else self.folder) / f"{label}.img"
        if image.exists():
            raise LabError(f"{image}: an image of this name exists")
        made = Filesystem(label, fstype, image, "", self._mountpoint(label), self.folder)
        made.on, made.options = on, options
        try:
            with image.open("wb") as file:
                file.truncate(size)
            run(*_MKFS[fstype], *mkfs, image)
            made.device = attach(image, direct_io)
            made.mount()
        except BaseException:
            self._close(made)
            raise
        return made

    def _close(self, closing: Filesystem) -> None:
        """Take one filesystem down; what it is stored on is thawed first, for it writes there."""
        below = []
        on = closing.on
        while on is not None:
            below.append(str(on.mountpoint))
            on = on.on
        if closing.device and is_attached(closing.device):
            release(self.folder, [closing.device], also_thaw=below)
            # One that came free may be another lab's by now.
            if closing.device in loops_of(self.folder):
                raise LabError(f"{closing.device} ({closing.name}) is still in use")
        closing.image.unlink(missing_ok=True)
        closing.mountpoint.rmdir()


@contextmanager
def open_lab(parent: Path = Path("/var/tmp"), size: int = 16 * GIB) -> Iterator[Lab]:
    """Open a lab under ``parent`` and take all of it down at the end of the block.

    Labs that a crashed run left there are taken down first.

    :param size: bytes of the sparse file that the base filesystem is in.
    :raises LabError: a tool failed, or at the end something could not be taken down.
    """
    if len(str(parent)) > _PARENT_LENGTH:
        raise LabError(f"{parent}: too long a name; a loop device remembers 63 letters of its file")
    remove_crashed_labs(parent)
    # It has its name only once it is locked, or another process would take it for a crashed one.
    draft = Path(tempfile.mkdtemp(prefix="new-", dir=parent))
    lock = os.open(draft / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = draft.rename(parent / (PREFIX + draft.name.removeprefix("new-")))
    lab = Lab(folder)
    try:
        lab.open(size)
        yield lab
    finally:
        try:
            tear_down(folder)
        finally:
            os.close(lock)
