# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tidies the fault table, makes the page of the docs out of it, and says what it lacks.

faults_page.py page TABLE PAGE
faults_page.py complete TABLE TESTS OTHERS      two files with names of tests, as pytest lists them
"""

from __future__ import annotations

import shutil
import statistics
import string
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.table import Try, done, tidy

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


def lacks(table: Path, tests: Iterable[str], others: Iterable[str]) -> list[str]:
    """Say of each row what it lacks; the table is left as it is.

    :param tests: those whose rows have to be there, each turn of them.
    :param others: those whose rows may be there.
    """
    wanted = list(tests)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(table, folder))
        ever = done(copy, wanted)
        measured = [line["row"] for line in tidy(copy)]
        counting = done(copy, wanted)
    missing = [test for test in wanted if test not in counting]
    turns = Counter(Try.of(test).row for test in wanted)
    stale = Counter(Try.of(test).row for test in missing if test in ever)
    said = []
    for row, count in Counter(Try.of(test).row for test in missing).items():
        # Measured of other code, or before a failure.
        old = f" ({stale[row]} do not count)" if stale[row] else ""
        said.append(f"{row}: lacks {count} of {turns[row]} turns{old}")
    known = {*turns, *(Try.of(test).row for test in others)}
    gone = dict.fromkeys(row for row in measured if row not in known)
    return said + [f"{row}: was measured, and there is no such test" for row in gone]


def _names(file: str) -> list[str]:
    return [line for line in Path(file).read_text().splitlines() if "::" in line]


def main(what: str, table: str, *files: str) -> int:
    """Do what the command line says."""
    if what == "page":
        Path(files[0]).write_text(page(tidy(Path(table))))
        return 0
    tests, others = map(_names, files)
    said = lacks(Path(table), tests, others)
    rows = len({Try.of(test).row for test in tests})
    print(*said, f"{rows} rows are wanted, and {len(said)} are not as they should be", sep="\n")
    return int(bool(said) or not tests)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
