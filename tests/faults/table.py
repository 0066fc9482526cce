# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault table: what is noted of each fault, and the page of the docs that is made of it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """One fault, once: what happened, who thawed, and when that was.

    ``seconds`` count from ``since``: the fault, the thaw's request, or the host's own deadline.
    """

    group: str
    fault: str
    thawed_by: str
    seconds: float
    since: str


class Table:
    """Appends to a file that several processes may write to; to none where ``path`` is None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def note(
        self, group: str, fault: str, thawed_by: str, seconds: float, since: str = "the fault"
    ) -> None:
        """Note one fault that was survived."""
        if self._path is None:
            return
        measured = Measured(group, fault, thawed_by, round(seconds, 4), since)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(fd, (json.dumps(asdict(measured)) + "\n").encode())
        finally:
            os.close(fd)
