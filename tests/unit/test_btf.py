# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Offsets of members from BTF that is made for the test, and from that of this kernel."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._btf import VMLINUX, Btf, BtfError

from tests.unit.btf_blob import CONST, PTR, TYPEDEF, UNION, VOLATILE, Blob


@pytest.fixture
def blob() -> Blob:
    made = Blob()
    made.one_of_each()
    return made


def test_members_of_a_plain_structure(blob: Blob, tmp_path: Path) -> None:
    number = blob.integer("int", 4)
    blob.structure("inode", ("i_mode", number, 0), ("i_uid", number, 32), ("i_sb", number, 320))
    btf = Btf(blob.write(tmp_path))
    assert [btf.offset("inode", name) for name in ("i_mode", "i_uid", "i_sb")] == [0, 4, 40]


def test_a_name_that_ends_or_begins_like_another(blob: Blob, tmp_path: Path) -> None:
    number = blob.integer("int", 4)
    blob.structure("my_file", ("f_inode", number, 64))
    blob.structure("file_lock", ("f_inode", number, 128))
    blob.structure("file", ("xf_inode", number, 0), ("f_inode", number, 256))
    assert Btf(blob.write(tmp_path)).offset("file", "f_inode") == 32


def test_only_a_structure_is_one(blob: Blob, tmp_path: Path) -> None:
    """Unions, functions and members may have the same name as a structure."""
    number = blob.integer("fdtable", 4)
    blob.structure("fdtable", ("fd", number, 64), kind=UNION)
    blob.structure("holder", ("fdtable", number, 0))
    blob.structure("fdtable", ("fd", number, 128))
    assert Btf(blob.write(tmp_path)).offset("fdtable", "fd") == 16


def test_the_first_of_two_structures_that_has_the_member(blob: Blob, tmp_path: Path) -> None:
    number = blob.integer("int", 4)
    blob.structure("file", ("other", number, 0))
    blob.structure("file", ("f_inode", number, 96))
    assert Btf(blob.write(tmp_path)).offset("file", "f_inode") == 12


def test_anonymous_structures_and_unions_add_up(blob: Blob, tmp_path: Path) -> None:
    number = blob.integer("int", 4)
    inner = blob.structure("", ("deep", number, 32), ("deeper", number, 64))
    middle = blob.structure("", ("beside", number, 0), ("", inner, 64), kind=UNION)
    blob.structure("file", ("f_mode", number, 0), ("", middle, 128), ("f_last", number, 512))
    btf = Btf(blob.write(tmp_path))
    assert btf.offset("file", "beside") == 16
    assert btf.offset("file", "deep") == 16 + 8 + 4
    assert btf.offset("file", "deeper") == 16 + 8 + 8
    assert btf.offset("file", "f_last") == 64


def test_a_named_structure_hides_its_members(blob: Blob, tmp_path: Path) -> None:
    number = blob.integer("int", 4)
    inner = blob.structure("path", ("dentry", number, 64))
    blob.structure("file", ("f_path", inner, 64))
    with pytest.raises(BtfError, match="no member dentry"):
        Btf(blob.write(tmp_path)).offset("file", "dentry")


def test_structures_with_bitfields(blob: Blob, tmp_path: Path) -> None:
    """The upper eight bits of an offset are then the width of the field."""
    number = blob.integer("int", 4)
    blob.structure(
        "task_struct",
        ("flag", number, 3 << 24 | 5),
        ("files", number, 0 << 24 | 0x20140),
        kflag=1,
    )
    assert Btf(blob.write(tmp_path)).offset("task_struct", "files") == 0x20140 // 8


def test_structures_larger_than_a_bitfield_could_say(blob: Blob, tmp_path: Path) -> None:
    number = blob.integer("int", 4)
    blob.structure("huge", ("end", number, 0x3000000))
    assert Btf(blob.write(tmp_path)).offset("huge", "end") == 0x3000000 // 8


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("chain", [[], [TYPEDEF], [CONST, VOLATILE], [TYPEDEF, CONST, TYPEDEF]])
def test_width(blob: Blob, tmp_path: Path, size: int, chain: list[int]) -> None:
    number = blob.integer("number", size)
    for kind in chain:
        number = blob.add(kind, "alias" if kind == TYPEDEF else "", number)
    blob.structure("sb_writers", ("frozen", number, 0))
    assert Btf(blob.write(tmp_path)).width("sb_writers", "frozen") == size


def test_width_of_a_member_of_an_anonymous_structure(blob: Blob, tmp_path: Path) -> None:
    inner = blob.structure("", ("frozen", blob.integer("short", 2), 0))
    blob.structure("sb_writers", ("", inner, 64))
    assert Btf(blob.write(tmp_path)).width("sb_writers", "frozen") == 2


def test_width_of_what_is_no_integer(blob: Blob, tmp_path: Path) -> None:
    pointer = blob.add(PTR, "", blob.integer("int", 4))
    blob.structure("sb_writers", ("frozen", pointer, 0))
    with pytest.raises(BtfError, match="frozen of struct sb_writers is not an integer"):
        Btf(blob.write(tmp_path)).width("sb_writers", "frozen")


def test_aliases_in_a_circle(blob: Blob, tmp_path: Path) -> None:
    circle = blob.add(CONST, "", blob.count + 2)
    blob.add(VOLATILE, "", circle)
    blob.structure("sb_writers", ("frozen", circle, 0))
    with pytest.raises(BtfError):
        Btf(blob.write(tmp_path)).width("sb_writers", "frozen")


@pytest.mark.parametrize(
    ("structure", "member"), [("file", "absent"), ("absent", "f_inode"), ("f_inode", "f_inode")]
)
def test_what_is_not_there(blob: Blob, tmp_path: Path, structure: str, member: str) -> None:
    number = blob.integer("int", 4)
    blob.structure("file", ("f_inode", number, 0))
    btf = Btf(blob.write(tmp_path))
    with pytest.raises(BtfError, match=f"struct {structure} has no member {member}"):
        btf.offset(structure, member)


def test_a_longer_header(blob: Blob, tmp_path: Path) -> None:
    number = blob.integer("int", 4)
    blob.structure("file", ("f_inode", number, 96))
    path = tmp_path / "btf"
    path.write_bytes(blob.bytes(padding=8))
    assert Btf(str(path)).offset("file", "f_inode") == 12


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"", "no BTF"),
        (lambda raw: raw[:23], "no BTF"),
        (lambda raw: b"\x7fELF" + raw[4:], "byte order"),
        # As a machine of the other byte order writes it.
        (lambda raw: raw[1::-1] + raw[2:], "byte order"),
        (lambda raw: raw[:2] + b"\x02" + raw[3:], "version 1"),
    ],
)
def test_what_is_no_btf(
    blob: Blob, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "btf"
    path.write_bytes(damage(blob.bytes()))
    with pytest.raises(BtfError, match=message):
        Btf(str(path))


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(BtfError, match="no BTF at"):
        Btf(str(tmp_path / "absent"))


def look(path: Path) -> list[object]:
    """Everything that a reader of superblocks asks for; BtfError where it is not there."""
    found: list[object] = []
    for ask in (Btf(str(path)).offset, Btf(str(path)).width):
        for member in ("outer", "deep", "absent"):
            try:
                found.append(ask("file", member))
            except BtfError as error:
                found.append(type(error))
    return found


def nested() -> Blob:
    """A small BTF with something anonymous in it."""
    made = Blob()
    made.one_of_each()
    number = made.add(CONST, "", made.integer("int", 4))
    inner = made.structure("", ("deep", number, 32))
    made.structure("file", ("outer", number, 0), ("", inner, 64))
    return made


def test_every_truncation_is_an_answer_or_a_btf_error(tmp_path: Path) -> None:
    raw, path = nested().bytes(), tmp_path / "btf"
    path.write_bytes(raw)
    assert look(path) == [0, 12, BtfError, 4, 4, BtfError]
    for length in range(24, len(raw)):
        path.write_bytes(raw[:length])
        look(path)


def test_types_cut_short_are_an_answer_or_a_btf_error(tmp_path: Path) -> None:
    """The same with the strings whole, so that the names are still found."""
    whole, path = nested(), tmp_path / "btf"
    for length in range(len(whole.types)):
        path.write_bytes(Blob(types=whole.types[:length], strings=whole.strings).bytes())
        look(path)


def test_a_structure_within_itself(tmp_path: Path) -> None:
    blob = Blob()
    blob.structure("file", ("", 1, 0))
    with pytest.raises(BtfError):
        Btf(blob.write(tmp_path)).offset("file", "absent")


@pytest.mark.parametrize("word", [0, 0xFFFFFFFF, 0x04000001, 0x8400FFFF])
def test_any_word_of_the_types_replaced(tmp_path: Path, word: int) -> None:
    whole, path = nested(), tmp_path / "btf"
    for place in range(0, len(whole.types), 4):
        types = whole.types[:place] + struct.pack("=I", word) + whole.types[place + 4 :]
        path.write_bytes(Blob(types=types, strings=whole.strings).bytes())
        look(path)


def test_the_kernel_that_this_runs_on() -> None:
    if not os.path.exists(VMLINUX):
        with pytest.raises(BtfError, match="no BTF at"):
            Btf()
        return
    btf = Btf()
    # The first members of these have been the first for ever.
    assert btf.offset("list_head", "next") == 0
    assert btf.offset("list_head", "prev") == struct.calcsize("P")
    # Members in an anonymous structure or union, and behind typedefs.
    assert btf.offset("page", "lru") >= struct.calcsize("L")
    assert btf.width("sb_writers", "frozen") in (2, 4)
    assert btf.width("task_struct", "pid") == 4
    assert btf.width("inode", "i_ino") == 8
    assert btf.offset("super_block", "s_op") > 0
