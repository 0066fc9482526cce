# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/performance.md and its plot from what has been measured."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import fleet, pause, tasks
from .methods import METHODS
from .plot import plot
from .records import Records, Spread, spread
from .settings import Settings
from .thousands import thousands
from .writers import KINDS

MEASURES: Mapping[str, Callable[[Records, Settings], None]] = {
    "pause": pause.measure,
    "tasks": tasks.measure,
    "fleet": fleet.measure,
}
"""The parts, and what measures each."""

_TEMPLATE = Path(__file__).with_name("performance.template.md")
_NAMES = {
    "nothing": "nothing is frozen",
    "sync": "sync alone, nothing is frozen",
    "tasks": "three tasks",
    "agent": "guest agent",
    "fsfreeze_run": "`fsfreeze_run`",
    "later": "`fsfreeze_run`, two seconds later",
}
_TOLD = ("fsfreeze_run", "later", "role")
_MISSING = "Not measured yet.\n"


def write(folder: Path, docs: Path) -> None:
    """Write the page from the records in a folder; of a part that is not there it says so."""
    of = {part: Records(folder / f"{part}.jsonl") for part in MEASURES}
    everything = [each for records in of.values() for each in records.all]
    stalls = of["pause"].of(kind="stall")
    fleets = _whole(of["fleet"])
    values = {
        "machine": f"{everything[0]['cpus']} cores, loop devices",
        "cpus": str(everything[0]["cpus"]),
        "kernel": everything[0]["kernel"],
        "dirty": ", ".join(f"{size >> 20} MiB" for size in {each["dirty"]: 0 for each in stalls}),
        "pause": _part("pause", stalls, _pauses),
        "pause_goals": _goals(stalls) if stalls else _MISSING,
        "pause_told": _told(stalls) if stalls else _MISSING,
        "sets": _part("pause", of["pause"].of(kind="set"), _sets),
        "tasks": _part("tasks", of["tasks"].all, _tasks),
        "fleet": _part("fleet", fleets, _fleet),
        "group": _part("fleet", fleets, _group),
        "thousands": thousands(fleets) if fleets else _MISSING,
    }
    text = string.Template(_TEMPLATE.read_text()).substitute(
        {name: value.strip("\n") for name, value in values.items()}
    )
    docs.joinpath("performance.md").write_text(text.rstrip("\n") + "\n")
    if stalls:
        names = {method: _name(method).replace("`", "") for method in METHODS}
        plot(stalls, names, docs / "pause.svg")


def _whole(records: Records) -> list[dict[str, Any]]:
    """The measurements of those fleets of which none is missing."""
    return [
        each
        for each in records.all
        if all(records.has(**key) for key in fleet.keys(each["fleet"], 1))
    ]


def _part(name: str, records: Sequence[dict[str, Any]], table: Callable[..., str]) -> str:
    """A table, and below it the command, the date and the number of runs."""
    if not records:
        return _MISSING
    days = sorted({each["date"] for each in records})
    runs = len({each["run"] for each in records})
    made = f"`make bench QUIESCE_BENCH_PARTS={name}`, {' to '.join(dict.fromkeys(days))}"
    return f"{table(records)}\n{made}: {runs} run{'s' if runs > 1 else ''}.\n"


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}\n"
    return text + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _name(method: str) -> str:
    return _NAMES.get(method, method)


def _shown(figures: Spread) -> str:
    return f"{figures.median:.3f} ({figures.least:.3f}-{figures.greatest:.3f})"


def _of(records: Sequence[dict[str, Any]], **key: Any) -> list[dict[str, Any]]:
    return [each for each in records if key.items() <= each.items()]


def _pauses(records: Sequence[dict[str, Any]]) -> str:
    """For each filesystem and state, a row for each way: median, spread, ratio to *shell*."""
    text = ""
    for fstype in pause.FSTYPES:
        for state in pause.STATES:
            rows = []
            for method in _methods(records, fstype, state):
                row = [_name(method)]
                for kind in KINDS:
                    shown = _shown(_longest(records, fstype, state, method, kind))
                    ratio = _ratio(records, fstype, state, kind, method, "shell")
                    row.append(shown if ratio is None else f"{shown}, {ratio:.2f} x")
                rows.append(row)
            head = [f"{fstype}, {state}", *(f"{kind}, s" for kind in KINDS)]
            text += _rows(head, rows) + "\n" if rows else ""
    return f"Seconds: median (least-greatest), and the ratio of the medians to *shell*.\n\n{text}"


def _methods(records: Sequence[dict[str, Any]], fstype: str, state: str) -> list[str]:
    """Those that have been measured."""
    return [each for each in METHODS if _of(records, fstype=fstype, state=state, method=each)]


def _longest(
    records: Sequence[dict[str, Any]], fstype: str, state: str, method: str, kind: str
) -> Spread:
    return spread(each[kind] for each in _of(records, fstype=fstype, state=state, method=method))


def _ratio(
    records: Sequence[dict[str, Any]], fstype: str, state: str, kind: str, method: str, than: str
) -> float | None:
    """Of the medians of two methods; None unless both have been measured."""
    if not {method, than} <= set(_methods(records, fstype, state)):
        return None
    found, first = (_longest(records, fstype, state, each, kind).median for each in (method, than))
    return found / first


def _goals(records: Sequence[dict[str, Any]]) -> str:
    rows = []
    for method, state, than, most in (
        ("fsfreeze_run", "slow", "shell", 0.1),
        ("fsfreeze_run", "clean", "shell", 1.3),
        *(
            ("role", state, than, 1.1)
            for than in ("fsfreeze_run", "later")
            for state in pause.STATES
        ),
    ):
        for fstype in pause.FSTYPES:
            for kind in KINDS:
                ratio = _ratio(records, fstype, state, kind, method, than)
                what = f"{_name(method)} to {_name(than)}; {fstype}, {state}, {kind}"
                measured = (
                    ["", "not measured"]
                    if ratio is None
                    else [f"{ratio:.2f} x", _verdict(ratio <= most)]
                )
                rows.append([what, f"≤ {most} x", *measured])
    return _rows(["medians", "goal", "measured", ""], rows)


def _verdict(met: bool) -> str:
    return "met" if met else "**not met**"


def _told(records: Sequence[dict[str, Any]]) -> str:
    """By how much the result and the buffered writer differ."""
    rows = []
    for fstype in pause.FSTYPES:
        for state in pause.STATES:
            found = [
                abs(each["pause"] - each["buffered"]) * 1000
                for method in _TOLD
                for each in _of(records, fstype=fstype, state=state, method=method)
            ]
            if found:
                differ = spread(found)
                shown = [f"{each:.1f}" for each in (differ.median, differ.greatest)]
                rows.append([f"{fstype}, {state}", *shown])
    return _rows(["", "median difference, ms", "greatest, ms"], rows)


def _sets(records: Sequence[dict[str, Any]]) -> str:
    rows = []
    for number in pause.SETS:
        row = [str(number)]
        for fstype in pause.FSTYPES:
            found = _of(records, fstype=fstype, number=number)
            row.append(_shown(spread(each["frozen_seconds"] for each in found)))
        rows.append(row)
    return _rows(["filesystems", *(f"{fstype}, s" for fstype in pause.FSTYPES)], rows)


def _tasks(records: Sequence[dict[str, Any]]) -> str:
    names = {"look": "`fsfreeze_info` to `stat`", "freeze": "freeze and thaw to two `command`s"}
    rows = []
    for pair in tasks.PAIRS:
        for connection in tasks.CONNECTIONS:
            found = _of(records, connection=connection)
            ours, theirs = (
                spread(spread(each[f"{pair}_{whose}"]).median for each in found)
                for whose in ("ours", "theirs")
            )
            ratio = ours.median / theirs.median
            what = f"{names[pair]}, {connection}"
            verdict = f"{ratio:.2f} x {_verdict(ratio <= 1.3)}"
            rows.append([what, _shown(ours), _shown(theirs), verdict])
    return _rows(["", "ours, s", "Ansible's, s", "goal: ≤ 1.3 x"], rows)


def _fleet(records: Sequence[dict[str, Any]]) -> str:
    rows = []
    for number in sorted({each["fleet"] for each in records}):
        alone = _of(records, fleet=number, hosts=1)
        one = spread(max(each["frozen_seconds"]) for each in _of(alone, play="snapshot")).median
        for forks in fleet.FORKS:
            of = _of(records, fleet=number, hosts=number, forks=forks)
            frozen = spread(max(each["frozen_seconds"]) for each in _of(of, play="snapshot"))
            total, ping = (
                spread(each["seconds"] for each in _of(of, play=play))
                for play in ("snapshot", "ping")
            )
            ratio = frozen.median / one
            rows.append(
                [
                    f"{number} hosts, {forks} forks",
                    _shown(frozen),
                    f"{one:.3f}",
                    f"{ratio:.2f} x {_verdict(ratio <= 1.5)}",
                    f"{total.median:.1f}",
                    f"{ping.median:.1f}",
                    f"{total.median / ping.median:.1f} x",
                ]
            )
    head = ["", "longest freeze, s", "one host alone, s", "goal: ≤ 1.5 x"]
    return _rows([*head, "total, s", "`ping`, s", "total to `ping`"], rows)


def _group(records: Sequence[dict[str, Any]]) -> str:
    rows = []
    for number in sorted({each["fleet"] for each in records}):
        of = _of(records, fleet=number, play="group")
        bare = spread(
            each["spread_seconds"] * 1000 for each in _of(records, fleet=number, play=fleet.BARE)
        )
        apart = spread(each["spread_seconds"] * 1000 for each in of)
        overlap = spread(each["overlap_seconds"] for each in of)
        proven = sum(each["proven"] for each in of)
        rows.append(
            [
                f"{number} hosts",
                f"{apart.median:.1f} ({apart.least:.1f}-{apart.greatest:.1f})",
                _verdict(apart.median <= 50),
                f"{bare.median:.1f}",
                f"{overlap.median:.1f}",
                f"{proven} of {len(of)}",
                f"{spread(max(each['frozen_seconds']) for each in of).median:.1f}",
            ]
        )
    head = [
        "",
        "spread, ms",
        "goal: ≤ 50 ms",
        "bare, ms",
        "overlap, s",
        "proven",
        "longest freeze, s",
    ]
    return _rows(head, rows)
