# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Offsets of structure members of the running kernel, from its BTF.

Format: Documentation/bpf/btf.rst of the kernel. Structures are found by their
name's place in the string section, which is a search for four bytes; the whole
of the types (about 150,000) is walked only where a member hides in an
anonymous structure, or where a member's width is asked for.
"""

from __future__ import annotations

import struct
from typing import Iterator, NamedTuple

VMLINUX = "/sys/kernel/btf/vmlinux"

_MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")

_INT, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 3, 4, 5, 6
_FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = 13, 14, 15, 17, 19
_ALIASES = (8, 9, 10)  # typedef, volatile, const
# What follows the 12 bytes of a type: (fixed bytes, bytes for each of its vlen entries).
_TAIL = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _FUNC_PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _DECL_TAG: (4, 0),
    _ENUM64: (0, 12),
}


_DAMAGE = (struct.error, IndexError, RecursionError)


class BtfError(Exception):
    """The BTF is not there, not understood, or lacks what was asked for."""


class Member(NamedTuple):
    """A member of a structure: bytes from its start, and the number of its type."""

    offset: int
    type: int


class Btf:
    """The BTF of the running kernel."""

    def __init__(self, path: str = VMLINUX) -> None:
        """Read it; ``BtfError`` when it cannot be had."""
        try:
            with open(path, "rb") as stream:
                raw = stream.read()
            fields = _HEADER.unpack_from(raw)
        except (OSError, struct.error) as error:
            raise BtfError("no BTF at %s: %s" % (path, error)) from error
        magic, version, _flags, header, type_off, type_len, str_off, str_len = fields
        if magic != _MAGIC or version != 1:
            raise BtfError("%s is not BTF version 1 of this byte order" % path)
        self._types = raw[header + type_off : header + type_off + type_len]
        self._strings = raw[header + str_off : header + str_off + str_len]
        self._places: list[int] = []

    def offset(self, structure: str, member: str) -> int:
        """Bytes from the start of ``struct structure`` to ``member``."""
        try:
            return self._find(structure, member).offset
        except _DAMAGE as error:
            raise BtfError("the BTF is damaged at struct %s" % structure) from error

    def width(self, structure: str, member: str) -> int:
        """Bytes that an integer ``member`` of ``struct structure`` takes."""
        try:
            index = self._index()
            number = self._find(structure, member).type
            for _each in index:
                _name, info, size = _TYPE.unpack_from(self._types, index[number])
                if info >> 24 & 0x1F == _INT:
                    return int(size)
                if info >> 24 & 0x1F not in _ALIASES:
                    break
                number = size
        except _DAMAGE as error:
            raise BtfError("the BTF is damaged at struct %s" % structure) from error
        raise BtfError("%s of struct %s is not an integer" % (member, structure))

    def _find(self, structure: str, member: str) -> Member:
        for place in self._named(structure, _STRUCT):
            found = self._member(place, member)
            if found is not None:
                return found
        raise BtfError("struct %s has no member %s in the BTF" % (structure, member))

    def _named(self, name: str, kind: int) -> Iterator[int]:
        """Places of the types of that kind and name."""
        text = self._strings.find(b"\0" + name.encode() + b"\0")
        if text < 0:
            return
        needle = struct.pack("=I", text + 1)
        place = self._types.find(needle)
        while place >= 0:
            if place % 4 == 0 and place + _TYPE.size <= len(self._types):
                info = _TYPE.unpack_from(self._types, place)[1]
                # A kind's number in the upper half cannot be a type's number or an offset.
                if info >> 24 & 0x1F == kind and info >> 16 & 0xFF == 0:
                    yield place
            place = self._types.find(needle, place + 1)

    def _member(self, place: int, member: str) -> Member | None:
        """A member of the structure at ``place``, through anonymous ones."""
        _name, info, _size = _TYPE.unpack_from(self._types, place)
        bitfields = info >> 31
        nested = []
        for index in range(info & 0xFFFF):
            at = place + _TYPE.size + index * _MEMBER.size
            if at + _MEMBER.size > len(self._types):
                return None
            name, number, bits = _MEMBER.unpack_from(self._types, at)
            offset = (bits & 0xFFFFFF if bitfields else bits) // 8
            if name == 0:
                nested.append((number, offset))
            elif self._string(name) == member:
                return Member(offset, number)
        for number, offset in nested:
            index_of = self._index()
            if number < len(index_of):
                inner = index_of[number]
                if _TYPE.unpack_from(self._types, inner)[1] >> 24 & 0x1F in (_STRUCT, _UNION):
                    found = self._member(inner, member)
                    if found is not None:
                        return Member(offset + found.offset, found.type)
        return None

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        return self._strings[offset:end].decode("ascii", "replace")

    def _index(self) -> list[int]:
        """Place of every type by its number (number 0 is void)."""
        if not self._places:
            places = [0]
            at, end = 0, len(self._types)
            unpack = struct.Struct("=I").unpack_from
            while at < end:
                places.append(at)
                info = unpack(self._types, at + 4)[0]
                fixed, each = _TAIL.get(info >> 24 & 0x1F, (0, 0))
                at += _TYPE.size + fixed + each * (info & 0xFFFF)
            self._places = places
        return self._places
