# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf(2) by ctypes: assemble, load and run small programs. No compiler, no library."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

# include/uapi/linux/bpf.h
_PROG_LOAD, _PROG_TEST_RUN = 5, 10
_PROG_TYPE_RAW_TRACEPOINT = 17
GET_CURRENT_TASK = 35
PROBE_READ_KERNEL = 113

# asm/unistd.h of each architecture, for a process of the kernel's own word size.
_SYSCALL = {
    ("x86_64", 8): 321,
    ("aarch64", 8): 280,
    ("riscv64", 8): 280,
    ("loongarch64", 8): 280,
    ("ppc64le", 8): 361,
    ("ppc64", 8): 361,
    ("s390x", 8): 351,
}

R0, R1, R2, R3, R6, R7, R10 = 0, 1, 2, 3, 6, 7, 10
MOV64_IMM, MOV64_REG, ADD64_IMM, ADD64_REG, LSH64_IMM, RSH64_IMM = 0xB7, 0xBF, 7, 15, 0x67, 0x77
LDX_DW, LDX_W, LDX_H, STX_DW = 0x79, 0x61, 0x69, 0x7B
JNE_IMM, CALL, EXIT = 0x55, 0x85, 0x95


class BpfError(Exception):
    """The kernel does not let us: the message says which step it refused, and why."""


def instruction(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """One instruction, in the byte order of this machine."""
    registers = dst | src << 4 if sys.byteorder == "little" else dst << 4 | src
    return struct.pack("=BBhi", code, registers, off, imm)


def load(program: bytes, name: str) -> int:
    """Load a raw tracepoint program, which is never attached, and return its descriptor."""
    code = ctypes.create_string_buffer(program, len(program))
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _PROG_TYPE_RAW_TRACEPOINT,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(_LICENSE),
        0,
        0,
        0,
        0,
        0,
        name.encode(),
    )
    return _bpf(_PROG_LOAD, attributes, "BPF_PROG_LOAD")[0]


def run(program: int, *context: int) -> int:
    """Run a raw tracepoint program once in this process; its 32-bit return value."""
    words = struct.pack("=%dQ" % len(context), *context)
    buffer = ctypes.create_string_buffer(words, len(words))
    attributes = struct.pack(
        "=IIIIQQIIIIQQII",
        program,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        len(words),
        0,
        ctypes.addressof(buffer),
        0,
        0,
        0,
    )
    out = _bpf(_PROG_TEST_RUN, attributes, "BPF_PROG_TEST_RUN")[1]
    return int(struct.unpack_from("=I", out, 4)[0])


def _bpf(command: int, attributes: bytes, step: str) -> tuple[int, bytes]:
    number = _SYSCALL.get((os.uname().machine, ctypes.sizeof(ctypes.c_void_p)))
    if number is None:
        raise BpfError("bpf(2) is not known on architecture %s" % os.uname().machine)
    buffer = ctypes.create_string_buffer(attributes, 144)
    result = _libc.syscall(number, command, buffer, len(buffer))
    if result < 0:
        raise BpfError("%s: %s" % (step, os.strerror(ctypes.get_errno())))
    return result, buffer.raw


def raise_memlock_limit() -> None:
    """Before Linux 5.11 programs and maps count against RLIMIT_MEMLOCK (64 KiB by default)."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    except (OSError, ValueError):
        return


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_LICENSE = ctypes.create_string_buffer(b"GPL")
