# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mountinfo: what the kernel may write there, and what is made of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    Mount,
    MountTable,
    check_absolute,
    has_block_device,
    locate,
    parse,
    read_only,
)


def line(
    *,
    number: int = 36,
    parent: int = 35,
    device: str = "254:17",
    mountpoint: str = "/srv",
    optional: str = "",
    fstype: str = "xfs",
    source: str = "/dev/vdb1",
    options: str = "rw,noquota",
) -> str:
    """A line of mountinfo, escaped already."""
    return (
        f"{number} {parent} {device} / {mountpoint} rw,noatime {optional}- "
        f"{fstype} {source} {options}"
    )


def only(text: str | bytes) -> Mount:
    """The one mount in the text."""
    (mount,) = parse(text if isinstance(text, bytes) else text.encode())
    return mount


def test_all_fields_of_a_line() -> None:
    text = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=x,data=ordered"
    assert only(text) == Mount(
        number=36,
        parent=35,
        device="98:0",
        root="/mnt1",
        mountpoint="/mnt2",
        options=("rw", "noatime"),
        fstype="ext3",
        source="/dev/root",
        super_options=("rw", "errors=x", "data=ordered"),
    )


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        (r"/with\040space", "/with space"),
        (r"/tab\011newline\012", "/tab\tnewline\n"),
        (r"/back\134slash", "/back\\slash"),
        # Unescaped once, not again.
        (r"/\134040", r"/\040"),
        (r"/\040\040", "/  "),
        (r"/hash\043", "/hash#"),
        # Too short, or no octal digits: not an escape.
        (r"/\04", r"/\04"),
        (r"/\089", r"/\089"),
        (r"/x\0401", "/x 1"),
        ("/ä", "/ä"),
        ("/-", "/-"),
    ],
)
def test_escapes(escaped: str, name: str) -> None:
    assert only(line(mountpoint=escaped)).mountpoint == name


def test_a_name_that_is_not_utf8_names_the_same_file() -> None:
    raw = line(mountpoint="/NAME", source="/dev/NAME").encode().replace(b"NAME", b"\xff\xe4")
    assert os.fsencode(only(raw).mountpoint) == b"/\xff\xe4"
    assert os.fsencode(only(raw).source) == b"/dev/\xff\xe4"


@pytest.mark.parametrize(
    "optional",
    ["", "shared:7 ", "shared:7 master:3 propagate_from:2 ", "unbindable ", "new:1 newer "],
)
def test_optional_fields_of_any_number(optional: str) -> None:
    mount = only(line(optional=optional))
    assert (mount.mountpoint, mount.fstype, mount.source) == ("/srv", "xfs", "/dev/vdb1")


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("none", "none"),
        # An empty source leaves two spaces.
        ("", ""),
        (r"my\040disk", "my disk"),
        ("host:/export", "host:/export"),
        ("//server/share", "//server/share"),
        ("systemd-1", "systemd-1"),
        ("-", "-"),
    ],
)
def test_odd_sources(written: str, source: str) -> None:
    mount = only(line(source=written))
    assert mount.source == source
    assert mount.super_options == ("rw", "noquota")


def test_a_type_with_a_subtype() -> None:
    assert only(line(fstype="fuse.sshfs")).fstype == "fuse.sshfs"


def test_a_space_among_the_options() -> None:
    assert only(line(options="rw,key=a b")).super_options == ("rw", "key=a b")


def test_a_comma_within_a_value_separates_nothing() -> None:
    mount = only(line(options=r"rw,subvolid=256,subvol=/a\054ro"))
    assert mount.super_options == ("rw", "subvolid=256", "subvol=/a,ro")
    assert not read_only(mount)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("rw", False),
        ("ro", True),
        ("ro,noquota", True),
        ("rw,errors=remount-ro", False),
        # Before Linux 5.19 the comma in a btrfs subvolume's name is not escaped.
        ("rw,subvolid=256,subvol=/a,ro", False),
    ],
)
def test_read_only(options: str, expected: bool) -> None:
    assert read_only(only(line(options=options))) is expected


def test_a_read_only_mount_of_a_writable_superblock_is_not_read_only() -> None:
    assert not read_only(only("36 35 98:0 / /mnt ro,noatime - ext4 /dev/vda rw"))


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "\n",
        " ",
        " - ",
        " - - - ",
        "no mount at all",
        "36 35 98:0 /",
        "36 35 98:0 / /mnt rw",
        "36 35 98:0 / /mnt - ext4 /dev/vda rw",
        "36 35 98:0 / /mnt rw - ext4",
        "36 35 98:0 / /mnt rw - ext4 /dev/vda",
        "x 35 98:0 / /mnt rw - ext4 /dev/vda rw",
        "36 -1 98:0 / /mnt rw - ext4 /dev/vda rw",
        "36 35 98 / /mnt rw - ext4 /dev/vda rw",
        "\0" * 100,
    ],
)
def test_a_line_that_is_none_is_passed_over(broken: str) -> None:
    text = "\n".join([line(mountpoint="/one"), broken, line(mountpoint="/two"), ""])
    assert [mount.mountpoint for mount in parse(text.encode())] == ["/one", "/two"]


def test_every_truncation_leaves_whole_lines_whole() -> None:
    text = (line(mountpoint="/one") + "\n" + line(mountpoint="/two", options="rw")).encode()
    first = text.index(b"\n")
    for length in range(len(text)):
        found = [mount.mountpoint for mount in parse(text[:length])]
        assert found[:1] == (["/one"] if length >= first else found[:1])
        assert set(found) <= {"/one", "/two"}


def test_thousands_of_lines() -> None:
    text = "".join(line(number=n, mountpoint=f"/srv/{n}") + "\n" for n in range(20_000))
    mounts = parse(text.encode())
    assert [mount.number for mount in mounts] == list(range(20_000))
    assert mounts[-1].mountpoint == "/srv/19999"


def test_the_table_of_this_process_has_what_a_path_is_on(tmp_path: Path) -> None:
    place = locate(str(tmp_path))
    os.close(place.fd)
    assert place.mount in MountTable().mounts
    number = os.stat(tmp_path).st_dev
    # btrfs gives every subvolume a number of its own.
    if place.mount.fstype != "btrfs":
        assert place.mount.device == f"{os.major(number)}:{os.minor(number)}"


def mounted(number: int, parent: int, mountpoint: str, device: str) -> Mount:
    """A mount of a filesystem on a disk."""
    return Mount(
        number=number, parent=parent, mountpoint=mountpoint, device=device, source="/dev/vdb"
    )


ROOT = mounted(1, 0, "/", "8:1")


@pytest.mark.parametrize(
    ("mounts", "hidden"),
    [
        ([mounted(2, 1, "/srv", "8:2")], []),
        ([mounted(2, 1, "/srv", "8:2"), mounted(3, 2, "/srv", "8:3")], ["8:2"]),
        (
            [mounted(2, 1, "/a", "8:2"), mounted(3, 2, "/a", "8:3"), mounted(4, 3, "/a", "8:4")],
            ["8:3", "8:2"],
        ),
        # The same filesystem twice hides nothing.
        ([mounted(2, 1, "/srv", "8:2"), mounted(3, 2, "/srv", "8:2")], []),
        # What is mounted below it is beside the point.
        ([mounted(2, 1, "/srv", "8:2"), mounted(3, 2, "/srv/sub", "8:3")], []),
        # A tmpfs, or an autofs, below cannot be what is meant.
        (
            [
                Mount(2, 1, "0:40", "/", "/srv", (), "autofs", "systemd-1"),
                mounted(3, 2, "/srv", "8:3"),
            ],
            [],
        ),
        ([mounted(2, 1, "/", "8:2")], ["8:1"]),
        # A parent in another namespace is not in the table.
        ([mounted(2, 77, "/srv", "8:2")], []),
    ],
)
def test_covered_by(mounts: list[Mount], hidden: list[str]) -> None:
    table = MountTable([ROOT, *mounts])
    assert [mount.device for mount in table.covered_by(mounts[-1])] == hidden


def test_a_mount_that_is_its_own_parent_covers_nothing() -> None:
    root = mounted(1, 1, "/", "8:1")
    assert MountTable([root]).covered_by(root) == []


@pytest.mark.parametrize("length", [2, 3, 5])
def test_mounts_that_carry_each_other_come_to_an_end(length: int) -> None:
    circle = [mounted(n, (n + 1) % length, "/srv", f"8:{n}") for n in range(length)]
    found = MountTable(circle).covered_by(circle[0])
    assert [mount.device for mount in found][: length - 1] == [f"8:{n}" for n in range(1, length)]


def test_of_device() -> None:
    one, two = mounted(2, 1, "/one", "8:2"), mounted(3, 1, "/two", "8:2")
    assert MountTable([ROOT, one, two]).of_device("8:2") == [one, two]
    assert MountTable([ROOT]).of_device("8:2") == []


@pytest.mark.parametrize(
    ("device", "source", "expected"),
    [
        ("8:1", "/dev/root", True),
        ("254:0", "", True),
        ("0:40", "tmpfs", False),
        ("0:40", "", False),
        ("0:40", "/no/such/device", False),
        # A network or FUSE filesystem may call any path its source.
        ("0:40", "/", False),
        ("0:40", "/dev/null", False),
        # Not to be mistaken for "0:".
        ("08:1", "tmpfs", True),
    ],
)
def test_has_block_device(device: str, source: str, expected: bool) -> None:
    assert has_block_device(Mount(device=device, source=source)) is expected


def test_btrfs_has_the_block_device_of_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    block = os.stat_result((0o060660, *[0] * 9))
    monkeypatch.setattr(os, "stat", lambda path: block)
    assert has_block_device(Mount(device="0:40", source="/dev/vdb"))


@pytest.mark.parametrize(
    "paths", [[], [""], ["srv"], ["./srv"], ["~"], ["/good", "bad"], ["/nul\0"]]
)
def test_paths_that_are_not_absolute(paths: list[str]) -> None:
    with pytest.raises(QuiesceError, match="path"):
        check_absolute(paths)


def test_absolute_paths() -> None:
    check_absolute(["/", "/srv", "//srv", "/../srv"])
