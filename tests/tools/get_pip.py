# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install packages with the pip that comes with Python itself.

ansible-test downloads a script of this name to put the first pip into a new virtual
environment. This one stands in for it and needs no download: it runs the pip that
Python keeps for ensurepip. sanity.sh puts it where ansible-test looks first.
"""

from __future__ import annotations

import ensurepip
import os
import runpy
import sys
from pathlib import Path


def bundled_pip() -> str:
    """Return the path of the pip wheel that this Python was shipped with."""
    folders = [Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")]
    for folder in folders:
        wheels = sorted(str(wheel) for wheel in folder.glob("pip-*.whl"))
        if wheels:
            return wheels[-1]
    sys.exit("this Python has no pip of its own; on Debian: apt-get install python3-venv")


def main() -> None:
    """Run ``pip install`` with the arguments that the original script would have got."""
    wheel = bundled_pip()
    sys.path.insert(0, wheel)
    # What pip starts in turn, to build a package, needs it as well.
    os.environ["PYTHONPATH"] = wheel
    unknown_to_pip = {"--no-setuptools", "--no-wheel"}
    sys.argv = ["pip", "install"] + [arg for arg in sys.argv[1:] if arg not in unknown_to_pip]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
