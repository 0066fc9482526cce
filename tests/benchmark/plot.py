# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plot of the docs: for how long a buffered writer waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from .pause import FSTYPES, STATES
from .records import spread

_LABELS = {"clean": "clean", "dirty": "dirty", "slow": "dirty, slow disk"}


def plot(records: Sequence[dict[str, Any]], names: Mapping[str, str], file: Path) -> None:
    """Draw medians as bars, with the least and the greatest of the runs, to an SVG.

    :param names: of the methods, in the order of the bars.
    """
    # The same figures are the same file.
    matplotlib.rcParams["svg.hashsalt"] = "quiesce"
    figure, axes = pyplot.subplots(
        1, len(FSTYPES), figsize=(10, 4.5), sharey=True, layout="constrained"
    )
    width = 0.8 / len(names)
    for axis, fstype in zip(axes, FSTYPES, strict=True):
        for index, (method, name) in enumerate(names.items()):
            figures = [
                [
                    each["buffered"]
                    for each in records
                    if (each["fstype"], each["state"], each["method"]) == (fstype, state, method)
                ]
                for state in STATES
            ]
            found = {place: spread(each) for place, each in enumerate(figures) if each}
            axis.bar(
                [place + index * width for place in found],
                [each.median for each in found.values()],
                width,
                yerr=[
                    [each.median - each.least for each in found.values()],
                    [each.greatest - each.median for each in found.values()],
                ],
                capsize=2,
                label=name,
            )
        axis.set_title(fstype)
        axis.set_yscale("log")
        axis.set_xticks([place + (len(names) - 1) / 2 * width for place in range(len(STATES))])
        axis.set_xticklabels([_LABELS[state] for state in STATES])
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("longest stall of a buffered writer, s")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(file, metadata={"Date": None})
