# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start EC2 as moto has it, in the background, with an instance that has a volume beside its root.

cloud.py FOLDER (with the checkout in PYTHONPATH): cloud.pid, cloud.url and cloud.volume in it say
what there is.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests.providers.amazon import Amazon

_PATIENCE_SECONDS = 30.0


def serve(folder: Path) -> None:
    """Note what there is, the address last, and be there until somebody ends this process."""
    amazon = Amazon(watch=tuple)
    amazon.start()
    _instance, (volume,) = amazon.instance(1)
    (folder / "cloud.pid").write_text(str(os.getpid()))
    (folder / "cloud.volume").write_text(volume)
    (folder / "cloud.url").write_text(amazon.url)
    while folder.exists():
        time.sleep(1)


def main() -> None:
    """Wait until it answers; the folder's end is the end of it, too."""
    folder = Path(sys.argv[1])
    with (folder / "cloud.log").open("wb") as log:
        if os.fork() == 0:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            serve(folder)
            os._exit(0)
    end = time.monotonic() + _PATIENCE_SECONDS
    while not (folder / "cloud.url").exists():
        if time.monotonic() > end:
            sys.exit((folder / "cloud.log").read_text())
        time.sleep(0.1)


if __name__ == "__main__":
    main()
