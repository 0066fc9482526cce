# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mountinfo: nothing makes the parser fail, and every mount comes back as it was."""

from __future__ import annotations

import os
import re

from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    Mount,
    MountTable,
    parse,
    read_only,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.strategies import NAMES

NUMBERS = st.integers(0, 2**31 - 1)
PATHS = NAMES.map(lambda raw: os.fsdecode(b"/" + raw))
TYPES = st.from_regex(r"[a-z][a-z0-9_]{0,9}(\.[a-z]{1,5})?", fullmatch=True)
# Options have names, and may have values of any kind.
OPTIONS = st.lists(
    st.tuples(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.none() | NAMES).map(
        lambda pair: os.fsdecode(pair[0].encode() + (b"" if pair[1] is None else b"=" + pair[1]))
    ),
    max_size=2,
).map(tuple)
FLAG = st.sampled_from(["ro", "rw"])
MOUNTS = st.builds(
    Mount,
    number=NUMBERS,
    parent=NUMBERS,
    device=st.tuples(NUMBERS, NUMBERS).map(lambda pair: "%d:%d" % pair),
    root=PATHS,
    mountpoint=PATHS,
    options=st.tuples(FLAG, OPTIONS).map(lambda pair: (pair[0], *pair[1])),
    fstype=TYPES,
    source=NAMES.map(os.fsdecode),
    super_options=st.tuples(FLAG, OPTIONS).map(lambda pair: (pair[0], *pair[1])),
)
OPTIONAL = st.lists(
    st.sampled_from([b"shared:1", b"master:22", b"propagate_from:3", b"unbindable", b"new:7"]),
    max_size=5,
)


def escape(name: str, special: bytes = b" \t\n\\#") -> bytes:
    """As the kernel's mangle() and seq_show_option() do."""
    pattern = b"[" + re.escape(special) + b"]"
    return re.sub(pattern, lambda found: b"\\%03o" % found.group()[0], os.fsencode(name))


def write(mount: Mount, optional: list[bytes]) -> bytes:
    """The line of mountinfo for a mount."""
    options, super_options = (
        b",".join(escape(each, b", \t\n\\#") for each in some)
        for some in (mount.options, mount.super_options)
    )
    before = [
        b"%d %d" % (mount.number, mount.parent),
        mount.device.encode(),
        escape(mount.root),
        escape(mount.mountpoint),
        options,
        *optional,
    ]
    after = [escape(mount.fstype), escape(mount.source), super_options]
    return b" ".join(before) + b" - " + b" ".join(after)


@given(st.lists(st.tuples(MOUNTS, OPTIONAL), max_size=2))
def test_every_mount_comes_back(mounts: list[tuple[Mount, list[bytes]]]) -> None:
    text = b"".join(write(mount, optional) + b"\n" for mount, optional in mounts)
    assert parse(text) == [mount for mount, _optional in mounts]
    for found, (mount, _optional) in zip(parse(text), mounts, strict=True):
        assert read_only(found) is (mount.super_options[0] == "ro")


@given(
    st.lists(st.tuples(MOUNTS, OPTIONAL), min_size=1, max_size=2),
    st.data(),
    st.binary(max_size=20),
)
def test_damage_to_one_line_leaves_the_others(
    mounts: list[tuple[Mount, list[bytes]]], data: st.DataObject, damage: bytes
) -> None:
    lines = [write(mount, optional) for mount, optional in mounts]
    number = data.draw(st.integers(0, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[number])))
    damaged = [*lines]
    damaged[number] = lines[number][:at] + damage.replace(b"\n", b"") + lines[number][at:]
    found = parse(b"\n".join(damaged))
    assert len(found) in (len(mounts) - 1, len(mounts))
    whole = [mount for each, (mount, _optional) in enumerate(mounts) if each != number]
    assert [mount for mount in whole if mount not in found] == []


_PIECES = st.sampled_from(
    [
        b" ",
        b"-",
        b" - ",
        b"\n",
        b":",
        b"1",
        b"35",
        b"8:1",
        b"/",
        b"\\040",
        b"\\",
        b"\\777",
        b"rw",
        b",",
    ]
)


@given(st.binary(max_size=200) | st.lists(_PIECES, max_size=40).map(b"".join))
def test_nothing_makes_it_fail(raw: bytes) -> None:
    for mount in parse(raw):
        assert ":" in mount.device
        for name in (mount.mountpoint, mount.source, mount.root, mount.fstype):
            assert "\n" not in os.fsdecode(os.fsencode(name)) or b"\\012" in raw
        read_only(mount)


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.integers(0, 6), st.sampled_from(["/", "/a"])), max_size=8
    )
)
def test_what_covers_what_comes_to_an_end(entries: list[tuple[int, int, str]]) -> None:
    """Whoever is whose parent, also in circles, and never a mount as covered by itself."""
    mounts = [
        Mount(number=number, parent=parent, mountpoint=point, device=f"8:{number}")
        for number, parent, point in entries
    ]
    table = MountTable(mounts)
    for mount in mounts:
        for hidden in table.covered_by(mount)[:1]:
            assert hidden.device != mount.device
            assert hidden.mountpoint == mount.mountpoint
