# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's own commands that a test host is made with, and where its files are kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

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


def call(argv: Sequence[str], timeout: float = 60.0) -> str:
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


def require(*tools: str) -> None:
    """Raise an error if this is not root, or one that names each package that is missing."""
    if os.geteuid() != 0:
        raise HostError("the systemd test host mounts filesystems and needs root")
    missing = sorted({PACKAGE_OF_TOOL[tool] for tool in tools if shutil.which(tool) is None})
    if missing:
        raise HostError(
            f"the systemd test host needs {', '.join(missing)}: apt-get install {' '.join(missing)}"
        )
