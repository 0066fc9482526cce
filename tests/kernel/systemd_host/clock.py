# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a thaw happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SLEEPER = """\
import os, sys, time
print(flush=True)
try:
    os.unlink(sys.argv[1])
except FileNotFoundError:
    print(time.monotonic(), flush=True)
"""


class ThawClock:
    """Tells when a frozen filesystem was thawed: a process that slept on it notes the time.

    It unlinks a name that does not exist: that waits for the thaw and changes nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Put a process to sleep in ``folder``, which is on a filesystem that is frozen now."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SLEEPER, str(folder / "no-such-name")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout is not None:
            self._process.stdout.readline()

    def wait(self, seconds: float) -> float | None:
        """Return the ``time.monotonic()`` of the thaw; None if there is none in ``seconds``."""
        try:
            noted, _nothing = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        return float(noted)
