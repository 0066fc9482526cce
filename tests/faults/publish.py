# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the page of the docs out of what the fault table measured.

publish.py MEASUREMENTS PAGE
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

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
    "machine": "What needs a machine of its own, with systemd (Debian 11, 12 and 13, emulated)",
    "break glass": "Nobody is left to thaw",
}
_INTRODUCTION = """\
# The fault table

What is done to a running freeze, who thaws then, and when. Every row is a test
(`tests/faults`, and `tests/vm` for what needs a machine of its own) that makes the fault for
real, under load, and asserts that nothing is frozen afterwards, that the play's own result says
what happened, and that the programs that were held up went on and lost nothing.

`make test-faults` and `make test-vm` have measured it, each fault as many times in a row as its row
says, on hosts that share two processors with three others. Seconds count from what the last column
names.

"""
_HEAD = """\
| fault | who thaws | times | median | longest | seconds from |
| --- | --- | ---: | ---: | ---: | --- |
"""


def page(lines: list[str]) -> str:
    """Return the page for these measurements, a line of JSON each."""
    rows: dict[str, dict[tuple[str, str, str], list[float]]] = defaultdict(dict)
    for line in lines:
        measured = json.loads(line)
        key = (measured["fault"], measured["thawed_by"], measured["since"])
        rows[measured["group"]].setdefault(key, []).append(measured["seconds"])
    text = _INTRODUCTION
    known = [name for name in _GROUPS if name in rows]
    for name in [*known, *(name for name in rows if name not in _GROUPS)]:
        text += f"## {_GROUPS.get(name, name)}\n\n{_HEAD}"
        for (fault, thawed_by, since), seconds in rows[name].items():
            middle, longest = statistics.median(seconds), max(seconds)
            text += f"| {fault} | {thawed_by} | {len(seconds)} | {middle:.3f} | {longest:.3f} "
            text += f"| the {since.removeprefix('the ')} |\n"
        text += "\n"
    return text.rstrip("\n") + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(Path(sys.argv[1]).read_text().splitlines()))
