# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state and the identity of a superblock, read from the kernel without touching it.

A BPF program is run once in this process and follows
``current->files->fdt->fd[N]->f_inode->i_sb``; what it reads there is the
kernel's own truth: ``s_writers.frozen`` is what FIFREEZE and FITHAW change.
"""

from __future__ import annotations

import sys

from ansible_collections.quiesce.storage.plugins.module_utils import _bpf
from ansible_collections.quiesce.storage.plugins.module_utils._bpf import BpfError, instruction
from ansible_collections.quiesce.storage.plugins.module_utils._btf import Btf, BtfError

THAWED, FREEZING, FROZEN, UNKNOWN = "thawed", "freezing", "frozen", "unknown"

_FAILED = 0xFFFFFFFF
_READ = {2: _bpf.LDX_H, 4: _bpf.LDX_W, 8: _bpf.LDX_DW}
# enum in include/linux/fs.h: SB_UNFROZEN, SB_FREEZE_WRITE, _PAGEFAULT, _FS, _COMPLETE
_STATES = {0: THAWED, 1: FREEZING, 2: FREEZING, 3: FREEZING, 4: FROZEN}


class SuperblockError(Exception):
    """The kernel's own state cannot be read here; the message says why."""


def nesting() -> bool | None:
    """Whether device-mapper can freeze what is frozen already; None where that cannot be known.

    The kernel counts the freezes of a superblock since the very change that lets those of
    device-mapper nest (Linux 6.8). Before that, its freeze of a frozen filesystem fails.
    """
    try:
        btf = Btf()
        btf.offset("sb_writers", "frozen")
    except BtfError:
        return None
    try:
        btf.offset("sb_writers", "freeze_ucount")
    except BtfError:
        return False
    return True


class Reader:
    """Reads superblocks through descriptors of this process (any that is not ``O_PATH``)."""

    def __init__(self) -> None:
        """``SuperblockError``: no BTF, no privilege, lockdown, an old kernel, another machine."""
        _bpf.raise_memlock_limit()
        try:
            btf = Btf()
            chain = [("task_struct", "files"), ("files_struct", "fdt"), ("fdtable", "fd")]
            to_table = [btf.offset(*link) for link in chain]
            to_superblock = [btf.offset("file", "f_inode"), btf.offset("inode", "i_sb")]
            frozen = btf.offset("super_block", "s_writers") + btf.offset("sb_writers", "frozen")
            operations = btf.offset("super_block", "s_op")
            hooks = [btf.offset("super_operations", name) for name in ("freeze_fs", "freeze_super")]
            walk = _Walk(to_table, to_superblock)
            # The member is an unsigned short or an int: on a little-endian machine the
            # first two bytes hold the value of both, elsewhere the width must be known.
            width = 2 if sys.byteorder == "little" else btf.width("sb_writers", "frozen")
            self._frozen = walk.program([frozen], width)
            self._identity = (walk.program([], 8), walk.program([], 8, shift=32))
            self._hooks = [walk.program([operations, hook], 8, test=True) for hook in hooks]
        except (BtfError, BpfError) as error:
            raise SuperblockError(str(error)) from error

    def state(self, fd: int) -> str:
        """``thawed``, ``freezing`` or ``frozen``; ``unknown`` for a value not known to us."""
        return _STATES.get(self._run(self._frozen, fd), UNKNOWN)

    def identity(self, fd: int) -> int:
        """The address of the superblock: equal for two paths exactly when it is one filesystem."""
        low, high = (self._run(program, fd) for program in self._identity)
        return high << 32 | low

    def freezable(self, fd: int) -> bool:
        """Whether the filesystem type has what FIFREEZE asks for."""
        return any(self._run(program, fd) for program in self._hooks)

    @staticmethod
    def _run(program: int, fd: int) -> int:
        try:
            value = _bpf.run(program, fd)
        except BpfError as error:
            raise SuperblockError(str(error)) from error
        if value == _FAILED:
            raise SuperblockError("the kernel's structures are not as its BTF says")
        return value


class _Walk:
    """Makes programs that follow pointers from the running task to a superblock."""

    def __init__(self, to_table: list[int], to_superblock: list[int]) -> None:
        self._to_table = to_table
        self._to_superblock = to_superblock

    def program(self, tail: list[int], width: int, shift: int = 0, test: bool = False) -> int:
        """Load a program whose context is a descriptor's number.

        It returns the ``width`` bytes at the end of ``tail`` (the superblock's
        address where that is empty), shifted right; with ``test``, whether
        they are not zero.
        """
        make = instruction
        body = [make(_bpf.CALL, imm=_bpf.GET_CURRENT_TASK)]
        body.append(make(_bpf.MOV64_REG, _bpf.R7, _bpf.R0))
        exits = []

        def follow(offset: int, size: int) -> None:
            body.append(make(_bpf.MOV64_REG, _bpf.R3, _bpf.R7))
            body.append(make(_bpf.ADD64_IMM, _bpf.R3, imm=offset))
            body.append(make(_bpf.MOV64_REG, _bpf.R1, _bpf.R10))
            body.append(make(_bpf.ADD64_IMM, _bpf.R1, imm=-8))
            body.append(make(_bpf.MOV64_IMM, _bpf.R2, imm=size))
            body.append(make(_bpf.CALL, imm=_bpf.PROBE_READ_KERNEL))
            exits.append(len(body))
            body.append(b"")
            body.append(make(_READ[size], _bpf.R7, _bpf.R10, off=-8))

        body.insert(0, make(_bpf.LDX_DW, _bpf.R6, _bpf.R1))
        body.append(make(_bpf.MOV64_IMM, _bpf.R1, imm=0))
        body.append(make(_bpf.STX_DW, _bpf.R10, _bpf.R1, off=-8))
        for offset in self._to_table:
            follow(offset, 8)
        body.append(make(_bpf.LSH64_IMM, _bpf.R6, imm=3))
        body.append(make(_bpf.ADD64_REG, _bpf.R7, _bpf.R6))
        steps = [0, *self._to_superblock, *tail]
        for offset in steps[:-1]:
            follow(offset, 8)
        follow(steps[-1], width)
        body.append(make(_bpf.RSH64_IMM, _bpf.R7, imm=shift))
        body.append(make(_bpf.MOV64_REG, _bpf.R0, _bpf.R7))
        if test:
            body.append(make(_bpf.MOV64_IMM, _bpf.R0, imm=1))
            body.append(make(_bpf.JNE_IMM, _bpf.R7, off=1, imm=0))
            body.append(make(_bpf.MOV64_IMM, _bpf.R0, imm=0))
        body.append(make(_bpf.EXIT))
        for at in exits:
            body[at] = make(_bpf.JNE_IMM, _bpf.R0, off=len(body) - at - 1, imm=0)
        body.append(make(_bpf.MOV64_IMM, _bpf.R0, imm=-1))
        body.append(make(_bpf.EXIT))
        return _bpf.load(b"".join(body), "quiesce_state")
