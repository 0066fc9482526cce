# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BTF with anything in it: an offset, a width, or a BtfError, and soon."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ansible_collections.quiesce.storage.plugins.module_utils._btf import Btf, BtfError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.btf_blob import CONST, PTR, STRUCT, TYPEDEF, UNION, VOLATILE, Blob

WORDS = st.integers(0, 12) | st.sampled_from([2**32 - 1, 2**31]) | st.integers(0, 2**32 - 1)
MEMBERS = st.lists(
    st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 12), st.integers(0, 999)), max_size=3
)
TYPES = st.lists(
    st.tuples(st.sampled_from([STRUCT, UNION]), st.sampled_from(["", "s", "t"]), MEMBERS)
    | st.tuples(st.sampled_from([CONST, VOLATILE, TYPEDEF, PTR]), st.just(""), st.integers(0, 12))
    | st.tuples(st.just(1), st.just("int"), st.sampled_from([1, 2, 4, 8])),
    max_size=10,
)


def ask(path: Path) -> None:
    """What a reader of superblocks asks for."""
    with contextlib.suppress(BtfError):
        btf = Btf(str(path))
        for structure in ("s", "t", "absent"):
            for member in ("a", "b"):
                with contextlib.suppress(BtfError):
                    assert btf.offset(structure, member) >= 0
                with contextlib.suppress(BtfError):
                    assert btf.width(structure, member) >= 0


@given(types=TYPES, damage=st.lists(st.tuples(st.integers(0, 400), WORDS), max_size=3))
def test_any_types(
    tmp_path: Path, types: list[tuple[int, str, object]], damage: list[tuple[int, int]]
) -> None:
    blob = Blob()
    for kind, name, what in types:
        if isinstance(what, list):
            blob.structure(name, *what, kind=kind)
        elif isinstance(what, int):
            blob.integer(name, what) if kind == 1 else blob.add(kind, name, what)
    raw = bytearray(blob.bytes())
    for at, word in damage:
        raw[at : at + 4] = word.to_bytes(4, "little")[: len(raw[at : at + 4])]
    (tmp_path / "btf").write_bytes(raw)
    ask(tmp_path / "btf")


@given(raw=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, raw: bytes) -> None:
    for head in (b"", Blob().bytes()[:24]):
        (tmp_path / "btf").write_bytes(head + raw)
        ask(tmp_path / "btf")
