# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack a few collections out of the package `ansible`: unpack.py WHEEL FOLDER NAME…"""

from __future__ import annotations

import sys
import zipfile


def unpack(wheel: str, folder: str, names: list[str]) -> None:
    """Unpack these collections to ``folder``/ansible_collections; SystemExit if one is not there.

    Tests and documentation of theirs are left out.
    """
    with zipfile.ZipFile(wheel) as package:
        for name in names:
            top = f"ansible_collections/{name.replace('.', '/')}/"
            files = [each for each in package.namelist() if each.startswith(top)]
            if not files:
                sys.exit(f"{wheel} has no collection {name}")
            for file in files:
                if not file[len(top) :].startswith(("tests/", "docs/")):
                    package.extract(file, folder)


if __name__ == "__main__":
    unpack(sys.argv[1], sys.argv[2], sys.argv[3:])
