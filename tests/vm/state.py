# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The saved state of a booted machine, from which others are there within seconds."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import time
from pathlib import Path

from tests.kernel.lab import run
from tests.kernel.systemd_host import cache_folder

from .control import Control, MachineError
from .image import machine_image, machine_key
from .qemu import DISKS, SAVED, Qemu

BOOT_SECONDS = 600.0
"""How long a boot may take; on two idle cores it takes 10 to 30 s."""

_ARRIVAL_SECONDS = 60.0
_VERSION = 1
_PREPARE = """\
set -e
udevadm settle
for serial in data xfs; do
    ln -sf "/dev/disk/by-id/virtio-$serial" "/dev/shm/$serial"
done
mkfs.ext4 -q -L data /dev/shm/data
mkfs.xfs -q -L xfs /dev/shm/xfs
rm /dev/shm/data /dev/shm/xfs
udevadm settle
systemctl daemon-reload
systemctl start data.mount srv-xfs.mount
modprobe dm-snapshot
modprobe dm-thin-pool
sync
"""


def saved_state(suite: str) -> Path:
    """Return the folder with the disks of a booted machine; boot one first, if need be."""
    image = machine_image(suite)
    recipe = [_VERSION, image.name, list(Qemu(image).arguments()), DISKS, _PREPARE, _version()]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
    folder = cache_folder() / f"vm-{suite}-{digest}.state"
    with (cache_folder() / f"vm-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for outdated in cache_folder().glob(f"vm-{suite}-*.state*"):
                Qemu(outdated).stop()
                shutil.rmtree(outdated)
            _save(image, folder)
    return folder


def _version() -> str:
    """qemu's version: another may not understand the state."""
    return run("qemu-system-x86_64", "--version").stdout.splitlines()[0]


def _save(image: Path, folder: Path) -> None:
    draft = folder.with_name(f"{folder.name}.new")
    draft.mkdir()
    for wanted in ("vmlinuz", "initrd.img"):
        found = re.findall(rf"/({re.escape(wanted)}-[^/]+)/", _debugfs(image, "ls -p /boot"))
        if len(found) != 1:
            raise MachineError(f"{image}: not one {wanted} in /boot, but {found}")
        name = wanted.replace("vmlinuz", "kernel").partition(".")[0]
        _debugfs(image, f"dump /boot/{found[0]} {draft / name}")
    for serial, size in DISKS.items():
        disk = draft / f"{serial}.qcow2"
        base = ["-b", str(image), "-F", "raw"] if serial == "root" else []
        run("qemu-img", "create", "-q", "-f", "qcow2", *base, disk, *([size] if size else []))
    qemu = Qemu(draft)
    try:
        qemu.start(load=False)
        control = connect(qemu, BOOT_SECONDS)
        try:
            done = control.ask("run", 600, argv=["sh", "-c", _PREPARE], seconds=600, input=None)
        finally:
            control.close()
        if done["rc"] != 0:
            raise MachineError(f"the machine could not be prepared: {done['stderr']}")
        time.sleep(2)  # the last of the boot
        said = qemu.monitor(f"savevm {SAVED}")
        if said.strip():
            raise MachineError(f"savevm: {said}")
        qemu.execute("quit")
        qemu.wait_for_end(60)
    finally:
        qemu.stop()
    draft.rename(folder)


def _debugfs(image: Path, command: str) -> str:
    return run("debugfs", "-R", command, image).stdout


def connect(qemu: Qemu, seconds: float) -> Control:
    """Connect to the agent as soon as the machine lets us in; MachineError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            # The host's end is open before the machine listens, and a call then leads nowhere.
            return Control(qemu.ports["control"], machine_key(), _ARRIVAL_SECONDS)
        except MachineError as error:
            why = str(error)
        if time.monotonic() > deadline or not qemu.pid():
            raise MachineError(f"{why}; {qemu.said()}; {qemu.console()}")
        time.sleep(0.2)
