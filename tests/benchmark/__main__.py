# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the measurements and writes the page: python -m tests.benchmark FOLDER

What has been measured already, of the same code on the same kernel, is kept in FOLDER, and is not
measured again; --afresh forgets it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.kernel.lab import LabError

from . import page, settings
from .records import Records

_DOCS = Path(__file__).parents[2] / "docs"


def _main(folder: Path, afresh: bool) -> int:
    chosen = settings.read()
    # It is for this program, and for none that is measured.
    os.environ.pop("PYTHONPATH", None)
    for part in chosen.parts:
        file = folder / f"{part}.jsonl"
        if afresh:
            file.unlink(missing_ok=True)
        try:
            page.MEASURES[part](Records(file), chosen)
        except settings.OutOfTime:
            chosen.say(f"{part}: the time is over; give the same command again to go on")
            return 1
    page.write(folder, _DOCS)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(_main(Path(sys.argv[1]), "--afresh" in sys.argv[2:]))
    except LabError as error:
        sys.exit(f"python -m tests.benchmark: {error}")
