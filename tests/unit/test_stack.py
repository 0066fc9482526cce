# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a filesystem is stored on, from a sysfs made for the test."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _stack
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    Mount,
    MountTable,
    Place,
)


class Host:
    """Disks, mounts and files of a host that exists in a folder only."""

    def __init__(self, folder: Path) -> None:
        self.sys = folder / "sys"
        (self.sys / "dev" / "block").mkdir(parents=True)
        self.mounts: list[Mount] = []
        self.numbers: dict[str, str] = {}

    def disk(
        self, name: str, number: str, *, on: tuple[str, ...] = (), file: str = "", part_of: str = ""
    ) -> None:
        """A block device; ``on``: names of its slaves, ``file``: what backs a loop device."""
        folder = self.sys / "devices" / part_of / name
        folder.mkdir(parents=True)
        (folder / "dev").write_text(number + "\n")
        (self.sys / "dev" / "block" / number).symlink_to(folder)
        self.numbers[f"/dev/{name}"] = number
        if part_of:
            (folder / "partition").write_text("1\n")
        else:
            (folder / "slaves").mkdir()
        for slave in on:
            found = next((self.sys / "devices").rglob(slave))
            (folder / "slaves" / slave).symlink_to(found)
        if file:
            (folder / "loop").mkdir()
            (folder / "loop" / "backing_file").write_text(file + "\n")

    def btrfs(self, uuid: str, *disks: str) -> None:
        """What /sys/fs/btrfs says of a btrfs."""
        devices = self.sys / "fs" / "btrfs" / uuid / "devices"
        devices.mkdir(parents=True)
        for disk in disks:
            (devices / disk).symlink_to(next((self.sys / "devices").rglob(disk)))

    def mount(
        self,
        mountpoint: str,
        source: str,
        *,
        fstype: str = "ext4",
        device: str = "",
        options: tuple[str, ...] = ("rw",),
    ) -> Mount:
        """Mount a disk, under its own number where no other is given."""
        made = Mount(
            number=len(self.mounts) + 1,
            parent=1,
            device=device or self.numbers[source],
            mountpoint=mountpoint,
            fstype=fstype,
            source=source,
            super_options=options,
        )
        self.mounts.append(made)
        return made

    def locate(self, path: str) -> Place:
        """The mount with the longest mountpoint that a path is on."""
        on = [m for m in self.mounts if path.startswith(m.mountpoint.rstrip("/") + "/")]
        if not on:
            raise QuiesceError(f"{path} does not exist")
        mount = max(on, key=lambda each: len(each.mountpoint))
        return Place(path, os.open("/", os.O_PATH), True, mount)

    @property
    def stack(self) -> _stack.Stack:
        """The code under test, looking at this host."""
        return _stack.Stack(MountTable(self.mounts), str(self.sys))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(_stack, "locate", made.locate)
    monkeypatch.setattr(_stack, "_block_device", made.numbers.get)
    monkeypatch.setattr(_stack, "has_block_device", lambda mount: mount.source in made.numbers)
    return made


def test_a_plain_disk_is_stored_on_nothing(host: Host) -> None:
    host.disk("vda", "254:0")
    root = host.mount("/", "/dev/vda")
    assert host.stack.devices(root) == ["254:0"]
    assert host.stack.filesystems_below("254:0") == set()


def test_a_filesystem_that_is_not_mounted(host: Host) -> None:
    assert host.stack.filesystems_below("254:0") == set()


def test_a_loop_device(host: Host) -> None:
    host.disk("vda", "254:0")
    host.disk("loop0", "7:0", file="/srv/image")
    host.mount("/", "/dev/vda")
    host.mount("/mnt", "/dev/loop0")
    assert host.stack.filesystems_below("7:0") == {"254:0"}
    assert host.stack.filesystems_below("254:0") == set()


def test_a_partition_of_a_loop_device(host: Host) -> None:
    host.disk("vda", "254:0")
    host.disk("loop0", "7:0", file="/srv/image")
    host.disk("loop0p1", "259:0", part_of="loop0")
    host.mount("/", "/dev/vda")
    host.mount("/mnt", "/dev/loop0p1")
    assert host.stack.filesystems_below("259:0") == {"254:0"}


def test_a_loop_device_over_another_block_device(host: Host) -> None:
    host.disk("vda", "254:0")
    host.disk("loop0", "7:0", file="/srv/image")
    host.disk("loop1", "7:1", file="/dev/loop0")
    host.mount("/", "/dev/vda")
    host.mount("/mnt", "/dev/loop1")
    assert host.stack.filesystems_below("7:1") == {"254:0"}


def test_an_image_on_an_image(host: Host) -> None:
    host.disk("vda", "254:0")
    host.disk("loop0", "7:0", file="/image")
    host.disk("loop1", "7:1", file="/outer/image")
    host.mount("/", "/dev/vda")
    host.mount("/outer", "/dev/loop0")
    host.mount("/inner", "/dev/loop1")
    assert host.stack.filesystems_below("7:1") == {"7:0", "254:0"}
    assert host.stack.filesystems_below("7:0") == {"254:0"}


def test_device_mapper_on_device_mapper_on_md_on_loops(host: Host) -> None:
    host.disk("vda", "254:0")
    host.disk("vdb", "254:16")
    host.mount("/", "/dev/vda")
    host.mount("/a", "/dev/vdb")
    host.disk("loop0", "7:0", file="/image")
    host.disk("loop1", "7:1", file="/a/image")
    host.disk("md0", "9:0", on=("loop0", "loop1"))
    host.disk("dm-0", "253:0", on=("md0",))
    host.disk("dm-1", "253:1", on=("dm-0",))
    host.mount("/srv", "/dev/dm-1")
    assert host.stack.filesystems_below("253:1") == {"254:0", "254:16"}


def test_a_volume_on_a_partition(host: Host) -> None:
    host.disk("vda", "254:0")
    host.mount("/", "/dev/vda")
    host.disk("loop0", "7:0", file="/image")
    host.disk("loop0p2", "259:2", part_of="loop0")
    host.disk("dm-0", "253:0", on=("loop0p2",))
    host.mount("/srv", "/dev/dm-0")
    assert host.stack.filesystems_below("253:0") == {"254:0"}


def test_every_device_of_a_btrfs(host: Host) -> None:
    host.disk("vda", "254:0")
    host.disk("vdb", "254:16")
    host.mount("/", "/dev/vda")
    host.mount("/b", "/dev/vdb")
    host.disk("loop0", "7:0", file="/image")
    host.disk("loop1", "7:1", file="/b/image")
    host.disk("loop2", "7:2", file="/b/other")
    host.btrfs("1111", "loop2")
    host.btrfs("2222", "loop0", "loop1")
    many = host.mount("/many", "/dev/loop0", fstype="btrfs", device="0:40")
    assert host.stack.devices(many) == ["7:0", "7:1"]
    assert host.stack.filesystems_below("0:40") == {"254:0", "254:16"}


def test_a_btrfs_that_sysfs_does_not_know(host: Host) -> None:
    host.disk("vda", "254:0")
    mount = host.mount("/", "/dev/vda", fstype="btrfs", device="0:40")
    assert host.stack.devices(mount) == ["254:0"]
    host.mounts.clear()
    host.btrfs("1111")
    assert host.stack.devices(mount) == ["254:0"]
    (host.sys / "fs/btrfs/1111/devices/gone").symlink_to("/does/not/exist")
    assert host.stack.devices(mount) == ["254:0"]


def test_a_btrfs_that_lost_a_device(host: Host) -> None:
    host.disk("vda", "254:0")
    host.btrfs("1111", "vda")
    (host.sys / "fs/btrfs/1111/devices/missing").mkdir()
    mount = host.mount("/", "/dev/vda", fstype="btrfs", device="0:40")
    assert host.stack.devices(mount) == ["254:0"]


def test_a_btrfs_of_which_no_device_is_known_has_none(host: Host) -> None:
    """Above all not one with a device that sysfs cannot name either."""
    host.disk("vdb", "254:16")
    host.btrfs("1111", "vdb")
    (host.sys / "fs/btrfs/1111/devices/gone").symlink_to("/does/not/exist")
    mount = host.mount("/", "/dev/root", fstype="btrfs", device="0:40")
    assert host.stack.devices(mount) == []


@pytest.mark.parametrize("option", ["logdev", "rtdev", "journal_path"])
def test_log_devices_count(host: Host, option: str) -> None:
    host.disk("vda", "254:0")
    host.disk("vdb", "254:16")
    host.disk("loop0", "7:0", file="/image")
    host.mount("/", "/dev/vda")
    data = host.mount("/srv", "/dev/vdb", options=("rw", f"{option}=/dev/loop0", "noquota"))
    assert host.stack.devices(data) == ["254:16", "7:0"]
    assert host.stack.filesystems_below("254:16") == {"254:0"}


def test_a_source_that_is_gone_leaves_the_number_of_the_superblock(host: Host) -> None:
    mount = host.mount("/", "/dev/root", device="254:0")
    assert host.stack.devices(mount) == ["254:0"]


def test_what_has_no_disk_has_none(host: Host) -> None:
    mount = host.mount("/proc", "proc", fstype="proc", device="0:5")
    assert host.stack.devices(mount) == []


def test_a_backing_file_that_cannot_be_found(host: Host) -> None:
    host.disk("loop0", "7:0", file="/image (deleted)")
    host.mount("/mnt", "/dev/loop0")
    assert host.stack.filesystems_below("7:0") == set()


def test_an_image_on_itself_ends(host: Host) -> None:
    host.disk("loop0", "7:0", file="/mnt/image")
    host.mount("/mnt", "/dev/loop0")
    assert host.stack.filesystems_below("7:0") == set()


def test_two_images_on_each_other_end(host: Host) -> None:
    host.disk("loop0", "7:0", file="/b/image")
    host.disk("loop1", "7:1", file="/a/image")
    host.mount("/a", "/dev/loop0")
    host.mount("/b", "/dev/loop1")
    assert host.stack.filesystems_below("7:0") == {"7:1"}


def test_slaves_in_a_circle_end(host: Host) -> None:
    host.disk("dm-0", "253:0")
    host.disk("dm-1", "253:1", on=("dm-0",))
    (host.sys / "devices/dm-0/slaves/dm-1").symlink_to(host.sys / "devices/dm-1")
    host.mount("/mnt", "/dev/dm-0")
    assert host.stack.filesystems_below("253:0") == set()


def test_garbage_in_sysfs_is_passed_over(host: Host) -> None:
    host.disk("dm-0", "253:0")
    slaves = host.sys / "devices/dm-0/slaves"
    (slaves / "file").write_text("no device\n")
    (slaves / "empty").mkdir()
    (slaves / "empty" / "dev").write_bytes(b"\xff\n")
    (slaves / "dangling").symlink_to("/does/not/exist")
    host.mount("/mnt", "/dev/dm-0")
    assert host.stack.filesystems_below("253:0") == set()


def test_stored_on_names_what_is_left_out_once(host: Host) -> None:
    host.disk("vda", "254:0")
    host.disk("loop0", "7:0", file="/image")
    host.disk("loop1", "7:1", file="/one/image")
    host.disk("vdb", "254:16")
    host.mount("/", "/dev/vda")
    one = host.mount("/one", "/dev/loop0")
    host.mount("/again", "/dev/loop0")
    two = host.mount("/two", "/dev/loop1")
    host.mount("/b", "/dev/vdb")
    host.mount("/proc", "proc", fstype="proc", device="0:5")
    assert host.stack.stored_on(["254:0"]) == [one, two]
    assert host.stack.stored_on(["254:0", "7:0"]) == [two]
    assert host.stack.stored_on(["254:16"]) == []
    assert host.stack.stored_on([]) == []


def test_asking_twice_says_the_same(host: Host) -> None:
    host.disk("vda", "254:0")
    host.disk("loop0", "7:0", file="/image")
    host.mount("/", "/dev/vda")
    host.mount("/mnt", "/dev/loop0")
    stack = host.stack
    assert stack.filesystems_below("7:0") == stack.filesystems_below("7:0") == {"254:0"}


def test_block_device_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _stack._block_device(str(tmp_path)) is None
    assert _stack._block_device("/dev/null") is None
    assert _stack._block_device("/no/such/device") is None
    assert _stack._block_device("none") is None
    status = SimpleNamespace(st_mode=0o060660, st_rdev=os.makedev(259, 300))
    monkeypatch.setattr(os, "stat", lambda path: status)
    assert _stack._block_device("/dev/vdb") == "259:300"
