# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tidies the fault table, and makes the page of the docs out of it.

faults_page.py TABLE PAGE
"""

from __future__ import annotations

import statistics
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
says, while three others were tried on the same two processors. Seconds count from what the last
column names. The raw figures, and of which code they are, stand in `tests/faults/measured.jsonl`.

"""
_NOT_DEFENDED = """\
## What cannot be defended from user space, and what to do then

| what happens | what is left | what to do |
| --- | --- | --- |
| every process of a guard is killed at the same moment, and PID 1 is not systemd | the filesystems stay \
frozen; `quiesce.storage.status` shows the lease, and that its guard is dead | `ansible-playbook \
quiesce.storage.thaw`, or on the host `fsfreeze -u` for each mountpoint |
| the same with systemd, while PID 1 waits for a frozen `/` (a `daemon-reload`) | frozen until PID 1 gives its \
generators up, 90 s later | wait for that, or `fsfreeze -u` in a shell that is open already |
| `FIFREEZE` waits for storage that does not answer | the kernel blocks the writers of that filesystem, whatever the \
deadline; the others of the set are thawed | mend the storage: that one is thawed the moment that the kernel is done |
| all of a guard is killed, its filesystem has been unmounted lazily, and `/run` and `/dev/shm` are full | no path \
leads to it, and no module can be run to reach it by its device | empty one of the two, then the playbook again |
| somebody thaws by hand, and freezes again | the second freeze is not ours, and is left alone and told | whoever \
froze it, or the playbook, which thaws what anybody froze |
"""
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
    text = _INTRODUCTION
    for name in sorted(rows, key=list(_GROUPS).index):
        text += f"## {_GROUPS[name]}\n\n{_HEAD}"
        for (fault, thawed_by, since), seconds in rows[name].items():
            middle, longest = statistics.median(seconds), max(seconds)
            text += f"| {fault} | {thawed_by} | {len(seconds)} | {middle:.3f} | {longest:.3f} "
            text += f"| the {since.removeprefix('the ')} |\n"
        text += "\n"
    return text + _NOT_DEFENDED


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(tidy(Path(sys.argv[1]))))
