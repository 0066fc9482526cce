# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The provider ``qemu`` of the role, with this machine as the hypervisor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._clean import judge
from ansible_collections.quiesce.storage.plugins.module_utils._qemu import Copies
from ansible_collections.quiesce.storage.plugins.module_utils._qmp import Qmp

from tests.kernel.lab import run
from tests.vm.machine import Machine
from tests.vm.roles import WRITER, Roles

# An emulated processor takes minutes for a run of the role.
pytestmark = pytest.mark.timeout(3600)

PATHS, DISKS = ["/data", "/srv/xfs"], ["data", "xfs"]
"""An ext4 and an XFS, which are written to in this order, each on a disk of its own."""

# Keeps the monitor busy, as another program that talks to it.
_HOLDER = """\
import socket, time
monitor = socket.socket(socket.AF_UNIX)
monitor.connect("qmp")
time.sleep(900)
"""


@pytest.fixture(scope="module")
def ready(machine: Machine) -> Machine:
    """Give a machine whose disks are being written to."""
    machine.restore()
    machine.run("tee", "/dev/shm/writer.py", input=WRITER)
    words = " ".join(PATHS)
    machine.run("sh", "-c", f"python3 /dev/shm/writer.py {words} >/dev/null 2>&1 &")
    return machine


@pytest.fixture
def roles(ready: Machine, tmp_path: Path) -> Iterator[Roles]:
    """Give the role; the copies of a test are removed."""
    socket = str(ready.folder / "qmp")
    qemu = {"qemu_socket": socket, "qemu_host": "localhost", "qemu_disks": DISKS}
    before = nodes(ready)
    yield Roles(ready, tmp_path, provider="qemu", paths=PATHS, timeout=300, **qemu)
    try:
        assert ready.frozen() == []
        assert nodes(ready) == before
        assert ready.execute("query-jobs") == []
    finally:
        ready.thaw()
        for file in copies(ready):
            (ready.folder / file).unlink()


def nodes(vm: Machine) -> list[str]:
    """The files that qemu has open, of its disks and beside."""
    return sorted(each["file"] for each in vm.execute("query-named-block-nodes", flat=True))


def copies(vm: Machine) -> list[str]:
    """The files of copies, whole and not."""
    return sorted(file.name for file in vm.folder.glob("*.qcow2.*"))


def tasks(folder: Path, name: str, argv: Sequence[str]) -> str:
    """A file of tasks with one command, on the hypervisor."""
    file = folder / f"{name}.yml"
    command = {"ansible.builtin.command": {"argv": list(argv)}, "delegate_to": "localhost"}
    file.write_text(json.dumps([{**command, "become": False}]))
    return str(file)


def number(image: str, fstype: str, folder: Path) -> int:
    """The number on the filesystem in an image."""
    if fstype == "ext4":
        return int(run("debugfs", "-R", "cat /number", image).stdout)
    folder.mkdir()
    run("mount", "-o", "loop,ro,norecovery,nouuid", image, folder)
    try:
        return int((folder / "number").read_text())
    finally:
        run("umount", folder)


def test_two_disks(roles: Roles, tmp_path: Path):
    vm = roles.vm
    predicted = roles.run("--check", name="two")
    assert (predicted.error, predicted.changed) == ("", True)
    assert copies(vm) == []
    taken = roles.run(name="two")
    assert taken.error == ""
    result = taken.result
    assert (result["trusted"], result["held"], result["instant"]) == (True, True, "one")
    images = [each["path"] for each in result["snapshots"]]
    assert images == [str(vm.folder / f"{disk}.qcow2.two") for disk in DISKS]
    assert [each["source"] for each in result["snapshots"]] == DISKS
    for image, fstype in zip(images, ("ext4", "xfs"), strict=True):
        verdict = judge(image, fstype, False).as_dict()
        assert verdict["clean"], verdict
    numbers = [number(images[0], "ext4", tmp_path), number(images[1], "xfs", tmp_path / "xfs")]
    # One after the other is counted up: of one instant, the first is never behind.
    assert numbers[0] - numbers[1] in (0, 1)
    there = copies(vm)
    again = roles.run(name="two")
    assert (again.error, again.changed) == ("", False)
    assert copies(vm) == there
    assert [each["snapshot"] for each in again.result["snapshots"]] == images


def test_refused(roles: Roles, tmp_path: Path):
    vm = roles.vm
    (vm.folder / "xfs.qcow2.taken").touch()
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", small)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"qemu_socket": ""}, "wants consistent_snapshot_qemu_socket"),
        ({"qemu_socket": str(tmp_path / "none")}, "no virtual machine listens at"),
        ({"qemu_socket": str(vm.folder / "qga")}, "no answer from the virtual machine"),
        ({"qemu_disks": ["data", "other"]}, "has no disk 'other'; there are root, data, xfs"),
        ({"name": "taken"}, "xfs.qcow2.taken' exists, and nothing beside it says"),
        ({"qemu_directory": str(small)}, "bytes of free space, and the copies want"),
        ({"qemu_directory": str(tmp_path / "none")}, "no copy can be made in"),
    ]
    try:
        outcomes = roles.all([{"name": "refused", **variables} for variables, _why in cases])
    finally:
        run("umount", small)
    for (variables, why), outcome in zip(cases, outcomes, strict=True):
        assert why in outcome.error, variables
        assert "No snapshot was taken" in outcome.error
        assert outcome.result["snapshots"] == []
    assert copies(vm) == ["xfs.qcow2.taken"]


def test_the_second_fails(roles: Roles, tmp_path: Path):
    """Somebody takes the name in the last moment: the first is removed, and theirs stays."""
    vm = roles.vm
    theirs = vm.folder / "xfs.qcow2.half.part"
    failed = roles.run(name="half", before=tasks(tmp_path, "before", ["touch", str(theirs)]))
    assert f"{theirs.name}' exists" in failed.error
    assert "No snapshot of that name was kept" in failed.error
    assert (failed.result["held"], failed.result["trusted"]) == (True, False)
    assert failed.result["snapshots"] == []
    assert copies(vm) == [theirs.name]


def test_the_deadline_passes(roles: Roles, tmp_path: Path):
    """Another program talks to the monitor: the answer comes too late."""
    vm = roles.vm
    pid = tmp_path / "pid"
    holder = f"cd {vm.folder}; {sys.executable} -c '{_HOLDER}' >/dev/null 2>&1 & echo $! >{pid}"
    before = tasks(tmp_path, "before", ["sh", "-c", holder])
    after = tasks(tmp_path, "after", ["sh", "-c", f"kill $(cat {pid})"])
    late = roles.run(name="late", before=before, after=after, timeout=8)
    assert "No snapshot of that name was kept" in late.error
    assert late.result["thawed_by"] == "deadline"
    assert (late.result["held"], late.result["trusted"]) == (False, False)
    assert copies(vm) == []


def test_thawed_by_somebody_else(roles: Roles):
    """The copies are complete, and of no use: they are removed."""
    vm = roles.vm

    def meddle() -> None:
        # Before the whole set is frozen, it would be the freeze that fails.
        while not copies(vm):
            time.sleep(0.05)
        vm.thaw()

    thread = threading.Thread(target=meddle, daemon=True)
    thread.start()
    broken = roles.run(name="broken")
    thread.join(60)
    assert "the freeze was not held" in broken.error
    assert "No snapshot of that name was kept" in broken.error
    assert broken.result["snapshots"] == []
    assert copies(vm) == []


def size_of(vm: Machine, disk: str) -> int:
    """The bytes of a disk."""
    sizes = {
        each["device"]: each["inserted"]["image"]["virtual-size"]
        for each in vm.execute("query-block")
        if "inserted" in each
    }
    return int(sizes[disk])


def test_left_under_way(roles: Roles):
    """The controller died before the end: the name is taken until somebody removes it."""
    vm = roles.vm
    with Qmp(str(vm.folder / "qmp")) as qmp:
        made = Copies(qmp, "dead", DISKS, None).make(None, predict=False)
    assert made == {"changed": True, "begun": False, "complete": False}
    files = [f"{disk}.qcow2.dead.{end}" for disk in DISKS for end in ("json", "part")]
    assert copies(vm) == files
    # All of the room is theirs already.
    for disk in DISKS:
        there = (vm.folder / f"{disk}.qcow2.dead.part").stat()
        assert there.st_blocks * 512 >= there.st_size == size_of(vm, disk)
    assert "nobody has waited for their end" in roles.run(name="dead").error
    with Qmp(str(vm.folder / "qmp")) as qmp:
        assert Copies(qmp, "dead", DISKS, None).remove(predict=True)["changed"]
        assert Copies(qmp, "dead", DISKS, None).remove(predict=False)["changed"]
        assert not Copies(qmp, "dead", DISKS, None).remove(predict=False)["changed"]
    assert copies(vm) == []


def test_the_module_alone(roles: Roles, tmp_path: Path):
    """By default it copies all disks, and waits; its own files go when it is told so."""
    vm = roles.vm
    given = f"socket={vm.folder}/qmp name=alone directory={tmp_path}"
    argv = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-m"]
    argv += ["quiesce.storage.qemu_snapshot", "-a"]

    def call(options: str) -> dict[str, Any]:
        done = subprocess.run(
            [*argv, options],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(Path.cwd() / "collections")},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        said: dict[str, Any] = json.loads(done.stdout.partition("=>")[2])
        return said

    made = call(given)
    assert (made["changed"], made["complete"]) == (True, True)
    names = [each["source"] for each in made["snapshots"]]
    assert names == ["root", "data", "xfs", "pv1", "pv2", "spare"]
    assert not call(given)["changed"]
    assert call(f"{given} state=absent")["changed"]
    assert not call(f"{given} state=absent")["changed"]
    assert list(tmp_path.glob("*.alone*")) == []
