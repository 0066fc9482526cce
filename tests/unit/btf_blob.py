# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes BTF (Documentation/bpf/btf.rst of the kernel), a type at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

MAGIC = 0xEB9F
INT, PTR, ARRAY, STRUCT, UNION, ENUM = 1, 2, 3, 4, 5, 6
FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC = 7, 8, 9, 10, 11, 12
FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = 13, 14, 15, 16, 17, 18, 19


@dataclass
class Blob:
    """The types so far; each method returns the number of the type that it added."""

    types: bytes = b""
    strings: bytes = b"\0"
    count: int = 0
    places: list[int] = field(default_factory=lambda: [0])

    def name(self, text: str) -> int:
        """Where a name is in the strings, each of which is there once; 0 for none."""
        if not text:
            return 0
        found = self.strings.find(b"\0" + text.encode() + b"\0")
        if found >= 0:
            return found + 1
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(
        self,
        kind: int,
        name: str = "",
        size: int = 0,
        tail: bytes = b"",
        vlen: int = 0,
        kflag: int = 0,
    ) -> int:
        """A type of any kind; ``size`` is a number of a type for some."""
        info = kflag << 31 | kind << 24 | vlen
        self.places.append(len(self.types))
        self.types += struct.pack("=III", self.name(name), info, size) + tail
        self.count += 1
        return self.count

    def integer(self, name: str, size: int) -> int:
        """An integer of so many bytes."""
        return self.add(INT, name, size, struct.pack("=I", size * 8))

    def structure(
        self, name: str, *members: tuple[str, int, int], kind: int = STRUCT, kflag: int = 0
    ) -> int:
        """A structure of members, each ``(name, type, bits)``."""
        tail = b"".join(
            struct.pack("=III", self.name(m), number, bits) for m, number, bits in members
        )
        return self.add(kind, name, 64, tail, len(members), kflag)

    def one_of_each(self) -> None:
        """A type of every kind, so that a walk has to know the size of all."""
        number = self.integer("each_int", 4)
        words = struct.pack("=II", 0, 0)
        self.add(PTR, "", number)
        self.add(ARRAY, "", 0, struct.pack("=III", number, number, 3))
        self.structure("each_union", ("a", number, 0), ("b", number, 0), kind=UNION)
        self.add(ENUM, "each_enum", 4, words * 3, 3)
        self.add(FWD, "each_forward")
        self.add(TYPEDEF, "each_typedef", number)
        self.add(VOLATILE, "", number)
        self.add(CONST, "", number)
        self.add(RESTRICT, "", number)
        proto = self.add(FUNC_PROTO, "", number, words * 2, 2)
        self.add(FUNC, "each_function", proto)
        variable = self.add(VAR, "each_variable", number, struct.pack("=I", 1))
        self.add(DATASEC, ".each_section", 8, struct.pack("=III", variable, 0, 4) * 2, 2)
        self.add(FLOAT, "each_float", 8)
        self.add(DECL_TAG, "each_tag", number, struct.pack("=I", 0))
        self.add(TYPE_TAG, "each_type_tag", number)
        self.add(ENUM64, "each_enum64", 8, struct.pack("=III", 0, 0, 0) * 2, 2)

    def bytes(self, magic: int = MAGIC, version: int = 1, padding: int = 0) -> bytes:
        """The whole of it; ``padding`` lengthens the header, as a later version may."""
        header = struct.pack(
            "=HBBIIIII",
            magic,
            version,
            0,
            24 + padding,
            0,
            len(self.types),
            len(self.types),
            len(self.strings),
        )
        return header + b"\xee" * padding + self.types + self.strings

    def write(self, folder: Path) -> str:
        """Write it to a file; its path."""
        path = folder / "btf"
        path.write_bytes(self.bytes())
        return str(path)
