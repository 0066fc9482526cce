# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root filesystem of a virtual machine: a stock Debian with its own kernel and systemd."""

from __future__ import annotations

import fcntl
import functools
import shutil
import uuid
from pathlib import Path

from tests.hosts import USER
from tests.kernel.lab import run
from tests.kernel.systemd_host import cache_folder, cached_image, debootstrap

SUITES = {11: "bullseye", 12: "bookworm", 13: "trixie"}
"""The releases of Debian: Linux 5.10, 6.1 and 6.12."""

CONTROL_PORT = 2222
"""Where an sshd listens that is the tests' own: they stop and fill up the other one."""

_PACKAGES = (
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "openssh-server",
    "python3",
    "sudo",
    "lvm2",
    "thin-provisioning-tools",
    "dmsetup",
    "xfsprogs",
    "btrfs-progs",
    "e2fsprogs",
    "iproute2",
    "procps",
    "util-linux",
    "initramfs-tools",
    "linux-image-cloud-amd64",
    "qemu-guest-agent",
)
_SIZE_MIB = 2500

_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-networkd-wait-online.service",
)

# The second link is for the tests alone, and stays when the first is cut.
_NETWORK = """\
[Unit]
Description=Addresses that stay when a link is cut
DefaultDependencies=no
After=systemd-udevd.service systemd-udev-trigger.service
Before=ssh.service control.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'until [ -e /sys/class/net/eth1 ]; do sleep 0.1; done'
ExecStart=/sbin/ip link set lo up
ExecStart=/sbin/ip address replace 10.0.2.15/24 dev eth0
ExecStart=/sbin/ip link set eth0 up
ExecStart=/sbin/ip address replace 10.0.3.15/24 dev eth1
ExecStart=/sbin/ip link set eth1 up

[Install]
WantedBy=multi-user.target
"""

_CONTROL = f"""\
[Unit]
Description=The way in for the tests, which writes nothing to a disk
After=network-addresses.service

[Service]
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
ExecStart=/usr/sbin/sshd -D -e -f /dev/null -p {CONTROL_PORT} -o UsePAM=no -o PidFile=none \
-o UseDNS=no -o PrintLastLog=no -o PermitRootLogin=prohibit-password
StandardOutput=null
StandardError=null
OOMScoreAdjust=-1000
TimeoutStopSec=2
Restart=always

[Install]
WantedBy=multi-user.target
"""

_SSHD = """\
UseDNS no
MaxStartups 200
PrintLastLog no
PermitRootLogin prohibit-password
"""
# OpenSSH 9.8 and later shut out a client that connects too often.
_PENALTIES = "PerSourcePenalties no\n"

_FSTAB = """\
/dev/vda / ext4 defaults 0 1
LABEL=data /data ext4 defaults,nofail 0 2
LABEL=xfs /srv/xfs xfs defaults,nofail 0 0
"""
_UNITS = {"network-addresses.service": _NETWORK, "control.service": _CONTROL}


def suite_of(release: int | str) -> str:
    """Return the code name of a release of Debian, which may be given by its number."""
    return SUITES[release] if isinstance(release, int) else release


def machine_key() -> Path:
    """Return the private key that all machines let in, for root and for the user."""
    key = cache_folder() / "vm-key"
    key.parent.mkdir(parents=True, exist_ok=True)
    with key.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not key.exists():
            draft = key.with_suffix(".new")
            for unfinished in (draft, draft.with_suffix(".new.pub")):
                unfinished.unlink(missing_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "quiesce", "-f", draft)
            draft.with_suffix(".new.pub").rename(key.with_suffix(".pub"))
            draft.rename(key)
    return key


def machine_image(suite: str) -> Path:
    """Return the ext4 image of a Debian release; build it first, in minutes, if need be."""
    public = machine_key().with_suffix(".pub").read_text()
    recipe = [1, suite, _PACKAGES, _MASKED, _UNITS, _SSHD, _PENALTIES, _FSTAB, USER, public]
    fill = functools.partial(_fill, suite=suite, public=public)
    name = f"vm-{suite}"
    return cached_image(name, f"{name}-*.ext4", [*recipe, _SIZE_MIB], _SIZE_MIB, fill)


def _fill(tree: Path, suite: str, public: str) -> None:
    debootstrap(tree, suite, _PACKAGES)
    run("chroot", tree, "useradd", "--create-home", "--shell", "/bin/bash", USER)
    (tree / "etc/sudoers.d/test").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    for home in ("root", f"home/{USER}"):
        folder = tree / home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "authorized_keys").write_text(public)
    run("chroot", tree, "chown", "-R", f"{USER}:", f"/home/{USER}/.ssh")
    has_penalties = "persourcepenalties" in _sshd_settings(tree)
    settings = tree / "etc/ssh/sshd_config.d/test.conf"
    settings.write_text(_SSHD + (_PENALTIES if has_penalties else ""))
    (tree / "etc/fstab").write_text(_FSTAB)
    for empty in ("data", "srv/xfs", "var/log/journal"):
        (tree / empty).mkdir(parents=True, exist_ok=True)
    (tree / "etc/hostname").write_text(f"{suite}\n")
    (tree / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {suite}\n")
    (tree / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    units = tree / "etc/systemd/system"
    for unit, text in _UNITS.items():
        (units / unit).write_text(text)
        run("chroot", tree, "systemctl", "enable", unit)
    for unit in _MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    for surplus in ("var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(tree / surplus, ignore_errors=True)
        (tree / surplus).mkdir()


def _sshd_settings(tree: Path) -> str:
    (tree / "run/sshd").mkdir(parents=True, exist_ok=True)
    return run("chroot", tree, "/usr/sbin/sshd", "-T").stdout
