# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tidies the fault table, and makes the page of the docs out of it.

faults_page.py TABLE PAGE
"""

from __future__ import annotations

import statistics
import string
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.table import tidy

_GROUPS = {
    "controller": "The controller ends",
    "network": "The network is cut",
    "fleet": "One host of a fleet is lost",
    "snapshot": "The snapshot fails, or what follows it",
    "guard": "The guard is attacked",
    "host": "The host runs out of something",
    "storage": "The storage is slow, or gone",
    "hands": "Somebody does something by hand",
    "together": "Several plays on one host",
    "group": "Hosts that are frozen together",
    "machine": "What needs a machine of its own, with systemd (an emulated one)",
    "break glass": "Nobody is left to thaw",
}
_TEMPLATE = string.Template(Path(__file__).with_name("faults.template.md").read_text())
_HEAD = """\
| fault | who thaws | times | median | longest | seconds from |
| --- | --- | ---: | ---: | ---: | --- |
"""


def page(table: Iterable[Mapping[str, Any]]) -> str:
    """Return the page for the lines of a table."""
    rows: dict[str, dict[tuple[str, str, str], list[float]]] = defaultdict(dict)
    for line in table:
        key = (line["fault"], line["thawed_by"], line["since"])
        rows[line["group"]].setdefault(key, []).extend(line["seconds"])
    text = ""
    for name in sorted(rows, key=list(_GROUPS).index):
        text += f"## {_GROUPS[name]}\n\n{_HEAD}"
        for (fault, thawed_by, since), seconds in rows[name].items():
            middle, longest = statistics.median(seconds), max(seconds)
            text += f"| {fault} | {thawed_by} | {len(seconds)} | {middle:.3f} | {longest:.3f} "
            text += f"| {since if since.startswith(('the ', 'that ')) else f'the {since}'} |\n"
        text += "\n"
    return _TEMPLATE.substitute(groups=text.rstrip())


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(tidy(Path(sys.argv[1]))))
