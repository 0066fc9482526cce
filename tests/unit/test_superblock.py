# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading superblocks where it is not possible, and what is made of the kernel's numbers."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _bpf, _superblock
from ansible_collections.quiesce.storage.plugins.module_utils._btf import Btf, BtfError
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    Reader,
    SuperblockError,
    nesting,
)

from tests.unit.btf_blob import Blob
from tests.unit.sources import COLLECTION

OFFSETS = {
    "files": 0x100,
    "fdt": 0x20,
    "fd": 8,
    "f_inode": 0x30,
    "i_sb": 0x28,
    "s_writers": 0x200,
    "frozen": 0x10,
    "s_op": 0x38,
    "freeze_fs": 0x40,
    "freeze_super": 0x48,
}


class Kernel:
    """In place of bpf(2): keeps the programs, and answers what a test wants."""

    def __init__(self) -> None:
        self.programs: list[bytes] = []
        self.answers: dict[int, int] = {}

    def load(self, program: bytes, name: str) -> int:
        self.programs.append(program)
        return len(self.programs) - 1

    def run(self, program: int, *context: int) -> int:
        return self.answers[program]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()

    class Fake:
        def offset(self, _structure: str, member: str) -> int:
            return OFFSETS[member]

        def width(self, _structure: str, _member: str) -> int:
            return 4

    monkeypatch.setattr(_superblock, "Btf", Fake)
    monkeypatch.setattr(_bpf, "load", made.load)
    monkeypatch.setattr(_bpf, "run", made.run)
    monkeypatch.setattr(_bpf, "raise_memlock_limit", lambda: None)
    return made


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (0, "thawed"),
        (1, "freezing"),
        (2, "freezing"),
        (3, "freezing"),
        (4, "frozen"),
        (5, "unknown"),
        (0xFFFF, "unknown"),
    ],
)
def test_states(kernel: Kernel, number: int, state: str) -> None:
    reader = Reader()
    kernel.answers[0] = number
    assert reader.state(3) == state


def test_identity_is_an_address_of_64_bits(kernel: Kernel) -> None:
    reader = Reader()
    kernel.answers.update({1: 0x89ABCDE0, 2: 0xFFFF8881})
    assert reader.identity(3) == 0xFFFF888189ABCDE0


@pytest.mark.parametrize(("hooks", "expected"), [((0, 0), False), ((1, 0), True), ((0, 1), True)])
def test_freezable(kernel: Kernel, hooks: tuple[int, int], expected: bool) -> None:
    reader = Reader()
    kernel.answers.update({3: hooks[0], 4: hooks[1]})
    assert reader.freezable(3) is expected


def test_a_pointer_that_leads_nowhere_is_an_error(kernel: Kernel) -> None:
    reader = Reader()
    kernel.answers.update(dict.fromkeys(range(5), 0xFFFFFFFF))
    for ask in (reader.state, reader.identity, reader.freezable):
        with pytest.raises(SuperblockError, match="not as its BTF says"):
            ask(3)


def instructions(program: bytes) -> list[tuple[int, int, int]]:
    """Opcode, offset and immediate value of each instruction."""
    return [(code, off, imm) for code, _registers, off, imm in struct.iter_unpack("=BBhi", program)]


def offsets(program: bytes) -> list[int]:
    """What is added to the pointers that a program follows, one after another."""
    added = [imm for code, _off, imm in instructions(program) if code == _bpf.ADD64_IMM]
    assert added[1::2] == [-8] * (len(added) // 2)
    return added[0::2]


def test_programs_follow_the_pointers(kernel: Kernel) -> None:
    Reader()
    o = OFFSETS
    walk = [o["files"], o["fdt"], o["fd"], 0, o["f_inode"], o["i_sb"]]
    assert [offsets(program) for program in kernel.programs] == [
        [*walk, o["s_writers"] + o["frozen"]],
        walk,
        walk,
        [*walk, o["s_op"], o["freeze_fs"]],
        [*walk, o["s_op"], o["freeze_super"]],
    ]


def test_every_failed_read_ends_a_program_with_minus_one(kernel: Kernel) -> None:
    Reader()
    for program in kernel.programs:
        steps = instructions(program)
        reads = [
            n for n, step in enumerate(steps) if step == (_bpf.CALL, 0, _bpf.PROBE_READ_KERNEL)
        ]
        assert len(reads) == len(offsets(program))
        for read in reads:
            code, off, imm = steps[read + 1]
            assert (code, imm) == (_bpf.JNE_IMM, 0)
            assert steps[read + 2 + off :] == [(_bpf.MOV64_IMM, 0, -1), (_bpf.EXIT, 0, 0)]


@pytest.mark.parametrize(("byteorder", "width"), [("little", 2), ("big", 4)])
def test_width_of_the_state(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, byteorder: str, width: int
) -> None:
    monkeypatch.setattr(sys, "byteorder", byteorder)
    Reader()
    sizes = [imm for code, _off, imm in instructions(kernel.programs[0]) if code == _bpf.MOV64_IMM]
    # The first clears the place on the stack, the last is the answer of a failure.
    assert sizes == [0, 8, 8, 8, 8, 8, 8, width, -1]


def refuse(error: Exception) -> Callable[..., Any]:
    """A function that always raises this."""

    def refused(*_arguments: Any) -> Any:
        raise error

    return refused


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (_superblock, "Btf", BtfError("no BTF at /sys")),
        (_bpf, "load", _bpf.BpfError("BPF_PROG_LOAD: Operation not permitted")),
    ],
)
def test_where_it_cannot_be_read(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception
) -> None:
    monkeypatch.setattr(owner, name, refuse(error))
    with pytest.raises(SuperblockError, match=str(error)):
        Reader()


def test_where_a_program_cannot_be_run(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()
    monkeypatch.setattr(_bpf, "run", refuse(_bpf.BpfError("BPF_PROG_TEST_RUN: lockdown")))
    for ask in (reader.state, reader.identity, reader.freezable):
        with pytest.raises(SuperblockError, match="lockdown"):
            ask(3)


def test_a_structure_that_is_not_in_the_btf(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "btf").write_bytes(b"\x9f\xeb\x01\0")
    monkeypatch.setattr(_superblock, "Btf", lambda: Btf(str(tmp_path / "btf")))
    with pytest.raises(SuperblockError, match="no BTF at"):
        Reader()


@pytest.mark.parametrize(
    ("members", "nests"),
    [(["frozen", "freeze_kcount", "freeze_ucount"], True), (["frozen"], False), ([], None)],
)
def test_nesting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, members: list[str], nests: bool | None
) -> None:
    """Where the structure itself is not understood, nothing is concluded from what it lacks."""
    blob = Blob()
    number = blob.integer("int", 4)
    if members:
        places = [(name, number, 32 * at) for at, name in enumerate(members)]
        blob.structure("sb_writers", *places)
    path = blob.write(tmp_path)
    monkeypatch.setattr(_superblock, "Btf", lambda: Btf(path))
    assert nesting() is nests


def test_an_architecture_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = os.uname_result(("Linux", "host", "6", "#1", "pdp11"))
    monkeypatch.setattr(os, "uname", lambda: machine)
    with pytest.raises(_bpf.BpfError, match="architecture pdp11"):
        _bpf.load(b"\0" * 8, "name")


_READ = """
import os
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import *
try:
    print(Reader().state(os.open("/", os.O_RDONLY)))
except SuperblockError as error:
    print("SuperblockError:", error)
"""


def test_the_kernel_that_this_runs_on_without_privilege() -> None:
    """A child that has given up root, and so cannot load programs."""
    drop = "import os\nif os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    path = os.pathsep.join([str(COLLECTION), *sys.path])
    done = subprocess.run(
        [sys.executable, "-B", "-c", _READ.replace("\ntry", "\n" + drop + "try", 1)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("SuperblockError: "), done.stderr
    assert done.stdout.strip() != "SuperblockError:"


def test_instructions_as_the_kernel_lays_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    exit_, jump = _bpf.instruction(_bpf.EXIT), (_bpf.JNE_IMM, 7, 1, -2, -1)
    assert exit_ == b"\x95" + b"\0" * 7
    assert len(_bpf.instruction(*jump)) == 8
    order = {"little": 0x17, "big": 0x71}
    for name, registers in order.items():
        monkeypatch.setattr(sys, "byteorder", name)
        assert _bpf.instruction(*jump)[1] == registers
