# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root filesystem that hosts are copied from, built once for each Debian release."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

from tests.kernel.lab import run
from tests.kernel.systemd_host import cached_image, debootstrap, machine_suite

USER = "worker"
PASSWORD = "quiesce"
"""The user that may become root by sudo, and root's password for su. Neither leaves the host."""

_PACKAGES = (
    "openssh-server",
    "sudo",
    "python3",
    "util-linux",
    "procps",
    "e2fsprogs",
    "xfsprogs",
)
_SIZE_MIB = 1500

_SSHD = """\
UseDNS no
MaxStartups 200
PrintLastLog no
PidFile none
PermitRootLogin prohibit-password
"""
# OpenSSH 9.8 and later shut out a client that connects too often.
_PENALTIES = "PerSourcePenalties no"

# What no test looks at.
_SURPLUS = ("var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")


def host_image(suite: str | None = None) -> Path:
    """Return the ext4 image of a Debian release, the machine's own when none is named."""
    suite = suite or machine_suite()
    recipe = [1, suite, _PACKAGES, _SSHD, _PENALTIES, _SURPLUS, USER, PASSWORD, _SIZE_MIB]
    fill = functools.partial(_fill, suite=suite)
    return cached_image(f"host-{suite}", f"host-{suite}-*.ext4", recipe, _SIZE_MIB, fill)


def _fill(tree: Path, suite: str) -> None:
    debootstrap(tree, suite, _PACKAGES)
    run("chroot", tree, "useradd", "--create-home", "--shell", "/bin/bash", USER)
    run("chroot", tree, "sh", "-c", f"echo root:{PASSWORD} | chpasswd")
    (tree / "etc/sudoers.d/test").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    settings = tree / "etc/ssh/sshd_config.d/test.conf"
    settings.write_text(_SSHD)
    test = ("chroot", tree, "/usr/sbin/sshd", "-T", "-o", _PENALTIES)
    (tree / "run/sshd").mkdir(parents=True, exist_ok=True)
    if run(*test, check=False).returncode == 0:
        settings.write_text(f"{_SSHD}{_PENALTIES}\n")
    for folder in _SURPLUS:
        shutil.rmtree(tree / folder, ignore_errors=True)
        (tree / folder).mkdir()
