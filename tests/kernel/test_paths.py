# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which filesystem a path stands for, and in which order a set is frozen."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import ask

from tests.kernel.lab import FSTYPES, MIB, Lab, run
from tests.kernel.modules import Failed, call, freeze, info, state, thaw


def mountpoints(answer: dict[str, Any]) -> list[str]:
    return [each["mountpoint"] for each in answer["filesystems"]]


def warnings(answer: dict[str, Any]) -> str:
    return str(answer.get("warnings", ""))


def test_two_paths_a_file_and_a_symlink_are_one(lab: Lab, tmp_path: Path) -> None:
    with lab.filesystem("ext4") as one:
        folder = one.mountpoint / "a folder\nwith ümläuts"
        folder.mkdir()
        (folder / "file").write_text("x")
        link = tmp_path / "link"
        link.symlink_to(folder / "file")
        answer = freeze(link, folder, one, lease="l")
        assert mountpoints(answer) == [str(one)]
        assert answer["filesystems"][0]["path"] == str(link)
        assert thaw(folder / "file", lease="l")["held"] is True


def test_bind_mounts_are_one(lab: Lab, tmp_path: Path) -> None:
    with lab.filesystem("xfs") as one:
        (one.mountpoint / "inside").mkdir()
        (one.mountpoint / "file").write_text("x")
        folder, file = tmp_path / "folder", tmp_path / "file"
        folder.mkdir()
        file.write_text("")
        run("mount", "--bind", one.mountpoint / "inside", folder)
        run("mount", "--bind", one.mountpoint / "file", file)
        run("mount", "-o", "remount,bind,ro", folder)
        try:
            assert len(info(folder, one, file)) == 1
            answer = freeze(folder, one, file, lease="l")
            assert len(answer["filesystems"]) == 1
            assert thaw(one, lease="l")["held"] is True
            # A file that is mounted by itself can be all that leads to a filesystem.
            freeze(file, lease="l")
            assert state(one) == "frozen"
            assert thaw(file, lease="l")["held"] is True
        finally:
            run("umount", folder)
            run("umount", file)


def test_btrfs_subvolumes_are_one(lab: Lab, tmp_path: Path) -> None:
    with lab.filesystem("btrfs") as one:
        run("btrfs", "subvolume", "create", one.mountpoint / "sub")
        run("mount", "-o", "subvol=sub", one.device, tmp_path)
        try:
            answer = freeze(tmp_path, one.mountpoint / "sub", one, lease="l")
            assert len(answer["filesystems"]) == 1
            assert thaw(tmp_path, one, lease="l")["held"] is True
        finally:
            run("umount", tmp_path)


def test_inner_before_outer(lab: Lab) -> None:
    """The wrong order would hang until the outer one is thawed."""
    with (
        lab.filesystem("xfs", size=2048 * MIB) as outer,
        lab.filesystem("ext4", size=512 * MIB, on=outer) as middle,
        lab.filesystem("btrfs", size=128 * MIB, on=middle) as inner,
        lab.filesystem("ext4") as apart,
    ):
        for order in ([outer, middle, inner, apart], [apart, inner, outer, middle]):
            answer = freeze(*order, lease="stack", timeout=20)
            frozen = mountpoints(answer)
            assert frozen.index(str(inner)) < frozen.index(str(middle)) < frozen.index(str(outer))
            assert "stored on" not in warnings(answer)
            (inner.mountpoint / "x").exists()
            assert thaw(*order, lease="stack")["held"] is True
        answer = freeze(outer, lease="stack", timeout=20)
        assert str(inner) in warnings(answer)
        assert str(middle) in warnings(answer)
        assert str(apart) not in warnings(answer)
        assert thaw(outer, lease="stack")["held"] is True


def test_deadline_of_a_stack(lab: Lab) -> None:
    with (
        lab.filesystem("xfs", size=1024 * MIB) as outer,
        lab.filesystem("ext4", size=256 * MIB, on=outer) as inner,
    ):
        subprocess.run(["dd", "if=/dev/urandom", f"of={inner}/d", "bs=1M", "count=20"], check=True)
        freeze(outer, inner, lease="stack", timeout=1)
        try:
            run("sleep", "1.4")
            assert (state(outer), state(inner)) == ("thawed", "thawed")
        finally:
            thaw(outer, inner)


def test_root_is_refused_unless_named(tmp_path: Path) -> None:
    for path in (tmp_path, "/usr", "/root/../etc"):
        for check in (False, True):
            with pytest.raises(Failed, match="root filesystem"):
                freeze(path, check=check)
    # Check mode only: this machine's own root is not ours to freeze.
    assert freeze("/", check=True)["changed"] is True
    assert freeze("//", "/..", check=True)["filesystems"][0]["mountpoint"] == "/"
    with pytest.raises(Failed, match="root filesystem"):
        call("fsfreeze_run", path=[tmp_path], commands=[["true"]])


def test_run_folder_on_what_is_frozen(lab: Lab) -> None:
    """A /run that is no tmpfs: the guard must not write to what it has frozen."""
    with lab.filesystem("xfs") as one:
        (one.mountpoint / "run").mkdir()
        script = f"mount --bind {one.mountpoint}/run /run && echo ready && exec sleep 60"
        space = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        with subprocess.Popen(space, stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == b"ready\n"
                prefix = ["nsenter", "--mount", "--target", str(holder.pid)]
                freeze(one, lease="ground", timeout=2, prefix=prefix)
                assert state(one) == "frozen"
                assert thaw(one, lease="ground", prefix=prefix)["held"] is True
                freeze(one, lease="ground", timeout=1, prefix=prefix)
                run("sleep", "1.5")
                assert state(one) == "thawed"
                assert thaw(one, lease="ground", prefix=prefix)["thawed_by"] == "deadline"
                assert not list((one.mountpoint / "run" / "quiesce").iterdir())
            finally:
                holder.kill()


def test_mounted_over_is_refused(lab: Lab) -> None:
    with lab.filesystem("ext4") as below, lab.filesystem("xfs") as above:
        run("mount", "--bind", above.mountpoint, below.mountpoint)
        try:
            with pytest.raises(Failed, match="mounted over"):
                freeze(below)
            assert state(above) == "thawed"
        finally:
            run("umount", below.mountpoint)
        run("mount", "-t", "tmpfs", "tmpfs", below.mountpoint)
        try:
            with pytest.raises(Failed, match="tmpfs"):
                freeze(below)
        finally:
            run("umount", below.mountpoint)
        assert state(below) == "thawed"


def test_mounted_over_while_frozen(lab: Lab) -> None:
    """The lease thaws what it froze, whatever the path leads to by then."""
    with lab.filesystem("ext4") as below, lab.filesystem("xfs") as above:
        freeze(below, lease="l")
        run("mount", "--bind", above.mountpoint, below.mountpoint)
        try:
            assert state(above) == "thawed"
            answer = thaw(below, lease="l")
            assert answer["changed"]
            assert answer["held"] is True
        finally:
            run("umount", below.mountpoint)
        assert state(below) == "thawed"


def test_cannot_be_unmounted_by_accident(lab: Lab) -> None:
    with lab.filesystem("xfs") as one:
        freeze(one, lease="l")
        refused = subprocess.run(["umount", one.mountpoint], capture_output=True, check=False)
        assert b"busy" in refused.stderr
        assert thaw(one, lease="l")["held"] is True


@pytest.mark.parametrize("fstype", FSTYPES)
def test_can_be_unmounted_the_moment_that_it_is_thawed(lab: Lab, fstype: str) -> None:
    """No process of the guard's has it open any more when the guard answers."""
    umount = ctypes.CDLL(None, use_errno=True).umount
    with lab.filesystem(fstype) as one, lab.filesystem("ext4") as other:
        for _round in range(5):
            freeze(one, other, lease="l")
            answer = ask("l", {"op": "thaw"})
            refused = umount(bytes(one.mountpoint))
            assert refused == 0, os.strerror(ctypes.get_errno())
            one.mount()
            assert answer is not None
            assert answer["held"] is True


@pytest.mark.parametrize("way", ["request", "deadline", "path"])
def test_lazily_unmounted(lab: Lab, way: str) -> None:
    with lab.filesystem("ext4") as one:
        freeze(one, lease="l", timeout=1 if way == "deadline" else 30)
        one.unmount(lazy=True)
        try:
            if way == "deadline":
                run("sleep", "1.4")
                assert thaw(one, lease="l")["thawed_by"] == "deadline"
            else:
                answer = thaw(one, **({"lease": "l"} if way == "request" else {}))
                assert answer["changed"]
                assert answer["held"] is True
        finally:
            one.mount()
        assert state(one) == "thawed"


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_left_behind_frozen_and_unmounted(lab: Lab, fstype: str) -> None:
    with lab.filesystem(fstype) as one:
        assert not thaw(one.device)["changed"]
        one.freeze()
        one.unmount()
        try:
            assert thaw(one.device, check=True)["changed"]
            answer = thaw(one.device)
            assert answer["changed"]
            assert answer["filesystems"][0]["before"] == "frozen"
            assert answer["filesystems"][0]["state"] == "thawed"
            assert not thaw(one.device)["changed"]
        finally:
            one.mount()
        assert state(one) == "thawed"


def test_block_device_of_a_mounted_one(lab: Lab) -> None:
    with lab.filesystem("xfs") as one:
        freeze(one, lease="l")
        answer = thaw(one.device)
        assert answer["held"] is True
        assert state(one) == "thawed"
        with pytest.raises(Failed, match="block device"):
            freeze(one.device)


def test_read_only_is_refused(lab: Lab) -> None:
    with lab.filesystem("ext4") as one:
        run("mount", "-o", "remount,ro", one.mountpoint)
        for choice in ("fail", "remount_ro"):
            with pytest.raises(Failed, match="read-only"):
                freeze(one, unsupported=choice)
        answer = freeze(one, unsupported="skip")
        assert not answer["changed"]
        assert answer["filesystems"] == []
        (found,) = info(one)
        assert found["supported"] is False
        run("mount", "-o", "remount,rw", one.mountpoint)


def test_remount_ro_by_a_path_inside(tmp_path: Path) -> None:
    """A path stands for its filesystem, also where that can only be made read-only."""
    run("mount", "-t", "tmpfs", "tmpfs", tmp_path)
    try:
        (tmp_path / "inside").mkdir()
        (tmp_path / "file").touch()
        for path in (tmp_path / "inside", tmp_path / "file"):
            freeze(path, lease="l", unsupported="remount_ro", timeout=30)
            with pytest.raises(OSError, match="Read-only"):
                (tmp_path / "x").write_text("x")
            answer = thaw(path, lease="l")
            assert (answer["changed"], answer["held"]) == (True, True)
            (tmp_path / "x").write_text("x")
    finally:
        run("umount", tmp_path)


def test_remount_ro_and_back(lab: Lab, tmp_path: Path) -> None:
    run("mount", "-t", "tmpfs", "-o", "nosuid,noexec", "tmpfs", tmp_path)
    try:
        with lab.filesystem("ext4") as one:
            answer = freeze(one, tmp_path, lease="l", unsupported="remount_ro", timeout=30)
            assert [each["state"] for each in answer["filesystems"]] == ["frozen", "frozen"]
            with pytest.raises(OSError, match="Read-only"):
                (tmp_path / "x").write_text("x")
            assert info(tmp_path)[0]["state"] == "frozen"
            assert not freeze(one, tmp_path, lease="l", unsupported="remount_ro")["changed"]
            answer = thaw(one, tmp_path, lease="l")
            assert answer["held"] is True
            assert [each["state"] for each in answer["filesystems"]] == ["thawed", "thawed"]
            assert "warnings" not in answer
            (tmp_path / "x").write_text("x")
            assert os.statvfs(tmp_path).f_flag & os.ST_NOSUID
            assert os.statvfs(tmp_path).f_flag & os.ST_NOEXEC

            freeze(tmp_path, lease="l", unsupported="remount_ro")
            run("mount", "-o", "remount,rw", tmp_path)
            assert thaw(tmp_path, lease="l")["held"] is False

            with (
                (tmp_path / "open").open("w"),
                pytest.raises(Failed, match="open for writing"),
            ):
                freeze(one, tmp_path, lease="l", unsupported="remount_ro")
            assert state(one) == "thawed"
            (tmp_path / "x").write_text("still writable")
    finally:
        run("umount", tmp_path)


def test_a_thousand_paths(lab: Lab) -> None:
    with lab.filesystem("ext4") as one, lab.filesystem("xfs") as two:
        paths = []
        for number in range(500):
            for filesystem in (one, two):
                path = filesystem.mountpoint / f"folder {number}"
                path.mkdir()
                paths.append(path)
        answer = freeze(*paths, lease="many")
        assert mountpoints(answer) == [str(one), str(two)]
        assert thaw(*paths, lease="many")["held"] is True
