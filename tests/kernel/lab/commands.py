# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running system commands that may get stuck on a frozen filesystem."""

from __future__ import annotations

import subprocess
from pathlib import Path


class LabError(Exception):
    """A step of the lab failed; the text names the command and what it said."""


def run(
    *argv: str | Path, timeout: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return it with its output.

    :param argv: the program and its arguments; no shell is involved.
    :param timeout: seconds before the command is given up. It is then killed but not waited for,
        because a process that sleeps on a frozen filesystem cannot be reaped before the thaw.
    :param check: raise when the return code is not 0.
    :raises LabError: the command timed out, or failed while ``check`` is set.
    """
    words = [str(word) for word in argv]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        process.kill()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        raise LabError(f"{' '.join(words)}: still running after {timeout} s") from error
    if check and process.returncode != 0:
        said = (stderr or stdout).strip()
        raise LabError(f"{' '.join(words)}: rc {process.returncode}: {said}")
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)
