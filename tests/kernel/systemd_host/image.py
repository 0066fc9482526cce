# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of root filesystems, built by debootstrap and kept."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from .commands import HostError, cache_folder, call

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
    uris = call(["apt-get", "--print-uris", "update"])
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
        setting = call(["apt-config", "shell", "P", f"Acquire::{scheme}::Proxy"]).strip()
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
            call(
                ["mkfs.ext4", "-q", "-d", str(build / "tree"), str(draft), f"{size_mib}M"],
                timeout=300,
            )
            with draft.open("rb") as written:
                os.fsync(written.fileno())
            draft.rename(image)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return image
