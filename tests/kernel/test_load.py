# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator: what it calls lost is lost, and it ends whatever the filesystem is doing."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.kernel.lab import Filesystem, load, run
from tests.kernel.lab.load import PROGRAM


def _program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quiesce_load", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


program = _program()


def _files(folder: Path, append: int, mapped: int, renamed: int) -> None:
    """Write what the writers would have written when they had finished these numbers."""
    home = folder / program.FOLDER
    home.mkdir(parents=True)
    records = (program.record("append", n, program.RECORD_BYTES) for n in range(1, append + 1))
    (home / "append").write_bytes(b"".join(records))
    pages = bytearray(program.RING_PAGES * program.PAGE_BYTES)
    for number in range(1, mapped + 1):
        start = number % program.RING_PAGES * program.PAGE_BYTES
        pages[start : start + program.PAGE_BYTES] = program.record(
            "mmap", number, program.PAGE_BYTES
        )
    (home / "mmap").write_bytes(pages)
    (home / "current").write_bytes(program.record("rename", renamed, program.RECORD_BYTES))


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


FINISHED = {"append": 50, "mmap": 1500, "rename": 9}


@pytest.mark.parametrize("ahead", [0, 1, 700])
def test_nothing_is_lost_where_everything_or_more_is_there(tmp_path: Path, ahead: int) -> None:
    _files(tmp_path, 50 + ahead, 1500 + ahead, 9 + ahead)
    assert program.verify(tmp_path, FINISHED)["lost"] == 0


@pytest.mark.parametrize(
    ("append", "mapped", "renamed", "lost"),
    [
        (47, 1500, 9, {"append": 3, "mmap": 0, "rename": 0}),
        (50, 1496, 9, {"append": 0, "mmap": 4, "rename": 0}),
        (50, 1500, 8, {"append": 0, "mmap": 0, "rename": 1}),
    ],
)
def test_what_is_older_is_lost(
    tmp_path: Path, append: int, mapped: int, renamed: int, lost: dict[str, int]
) -> None:
    _files(tmp_path, append, mapped, renamed)
    answer = program.verify(tmp_path, FINISHED)
    assert {writer: answer[writer]["lost"] for writer in lost} == lost


def test_a_hole_in_the_middle_is_lost(tmp_path: Path) -> None:
    _files(tmp_path, 60, 1500, 9)
    _overwrite(tmp_path / program.FOLDER / "append", 10 * program.RECORD_BYTES, b"\0" * 300)
    page = 1400 % program.RING_PAGES
    _overwrite(tmp_path / program.FOLDER / "mmap", page * program.PAGE_BYTES + 100, b"\0")
    answer = program.verify(tmp_path, FINISHED)
    assert (answer["append"]["lost"], answer["mmap"]["lost"]) == (2, 1)


def test_the_page_in_the_making_may_be_torn_unless_it_was_finished(tmp_path: Path) -> None:
    _files(tmp_path, 50, 1510, 9)
    torn = 1511 % program.RING_PAGES * program.PAGE_BYTES
    half = program.record("mmap", 1511, program.PAGE_BYTES)[:2000]
    _overwrite(tmp_path / program.FOLDER / "mmap", torn, half)
    assert program.verify(tmp_path, FINISHED)["lost"] == 0
    assert program.verify(tmp_path, {**FINISHED, "mmap": 1511})["mmap"]["lost"] == 1


def test_an_empty_snapshot_has_lost_everything(tmp_path: Path) -> None:
    answer = program.verify(tmp_path, {"append": 5, "mmap": 7, "rename": 2})
    assert [answer[writer]["lost"] for writer in program.WRITERS] == [5, 7, 2]


def test_progress_is_read_as_it_was_noted_even_when_cut_off_between(tmp_path: Path) -> None:
    with program.Progress(tmp_path / "progress", create=True) as progress:
        assert progress.sample() == {"append": 0, "mmap": 0, "rename": 0}
        progress.finish("mmap", 12)
        assert progress.sample() == {"append": 0, "mmap": 12, "rename": 0}
        progress._cells[1 + 2 * program.WRITERS.index("mmap")] = 13
        assert progress.sample()["mmap"] == 12


def test_the_progress_may_not_be_on_the_loaded_filesystem(filesystem: Filesystem) -> None:
    argv: list[str | Path] = [sys.executable, PROGRAM, "run", "--directory", filesystem.mountpoint]
    argv += ["--progress", filesystem.mountpoint / "progress"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "another filesystem" in done.stderr


def test_the_load_ends_though_its_filesystem_is_frozen(filesystem: Filesystem) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(load(filesystem))
        with filesystem.frozen():
            time.sleep(0.5)
            begin = time.monotonic()
            stack.close()
            assert time.monotonic() - begin < 8
    # The writers sleep until the thaw, and end with it; then nothing uses the filesystem.
    deadline = time.monotonic() + 10
    while run("umount", filesystem.mountpoint, check=False).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_load_ends_when_told_to_on_the_command_line(
    filesystem: Filesystem, tmp_path: Path
) -> None:
    progress = tmp_path / "progress"
    argv: list[str | Path] = [sys.executable, PROGRAM, "run", "--directory", filesystem.mountpoint]
    process = subprocess.Popen([*argv, "--progress", progress])
    try:
        run(sys.executable, PROGRAM, "sample", "--progress", progress, "--ready", "20")
        run(sys.executable, PROGRAM, "stop", "--progress", progress)
        assert process.wait(1) == 0
        run(sys.executable, PROGRAM, "stop", "--progress", progress)
    finally:
        process.kill()
        process.wait()
