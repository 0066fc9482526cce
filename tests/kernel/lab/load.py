# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator of the demo, running on a filesystem of the lab."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import LabError, run
from .lab import Filesystem

PROGRAM = Path(__file__).resolve().parents[3] / "playbooks" / "files" / "load.py"


class Load:
    """Writers that keep a filesystem busy; made by :func:`load`."""

    def __init__(self, progress: Path) -> None:
        self.progress = progress

    def sample(self) -> str:
        """Return what each writer has finished by now, as JSON; take it before the freeze."""
        return _program("sample", "--progress", self.progress, "--ready", "20")

    def lost(self, mountpoint: Path, sample: str) -> dict[str, int]:
        """Return how many records of ``sample`` each writer lost in the snapshot mounted there."""
        argv = ("verify", "--snapshot-mount", mountpoint, "--progress", sample)
        answer = json.loads(_program(*argv))
        return {writer: answer[writer]["lost"] for writer in json.loads(sample)}


@contextmanager
def load(filesystem: Filesystem, *, fio_rate: int = 8, seconds: float = 600) -> Iterator[Load]:
    """Keep ``filesystem`` busy for the length of the block: append, mmap, renames and fio.

    :param fio_rate: MiB a second that fio writes, 0 for no fio.
    :param seconds: the load ends by itself after this long.
    :raises LabError: it did not begin, or had ended by itself before the end of the block.
    """
    progress = filesystem.folder / f"{filesystem.name}.progress"
    argv = [sys.executable, str(PROGRAM), "run", "--directory", str(filesystem.mountpoint)]
    argv += ["--progress", str(progress), "--fio-rate", str(fio_rate), "--seconds", str(seconds)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        running = Load(progress)
        running.sample()
        yield running
        if process.poll() is not None:
            raise LabError(f"the load on {filesystem} ended by itself")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        progress.unlink(missing_ok=True)


def _program(*argv: str | Path) -> str:
    return run(sys.executable, PROGRAM, *argv).stdout.strip()
