# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quotas that are asked for, set, switched on and off while the filesystem is frozen.

The idea of xfstests' generic/280, where such a call took a lock that the thaw needs. What only asks
gets its answer while it is frozen; what would change something waits, and no thaw waits for it.
Quotas are on where the kernel has them for that type; where it has not, the calls take the same
locks before they say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import FSTYPES, Lab, LabError
from tests.kernel.processes import wait_for
from tests.torture.scene import PATIENCE, scene

CALLS = {
    "ext4": ("read", "get", "set", "on", "off"),
    "xfs": ("read", "get", "set", "on", "off"),
    "btrfs": ("read", "set", "btrfs-on", "btrfs-off", "btrfs-limit"),
}
WITH_QUOTA: dict[str, dict[str, Any]] = {
    "ext4": {"mkfs": ("-O", "quota")},
    "xfs": {"options": ("uquota",)},
    "btrfs": {},
}
# btrfs has no calls of the generic kind, and no limits while quotas are off: it says so at once.
MAY_NOT_WAIT = {("btrfs", "set"), ("btrfs", "btrfs-limit")}


def options(lab: Lab, fstype: str) -> dict[str, Any]:
    """What switches quotas on, or nothing where this kernel has none for the type."""
    try:
        with lab.filesystem(fstype, **WITH_QUOTA[fstype]):
            return WITH_QUOTA[fstype]
    except LabError as error:
        # Of all that can go wrong, it is only this that says so.
        if "mount -t" not in str(error) or "wrong fs type, bad option" not in str(error):
            raise
        return {}


class Calls:
    """The processes that call, and how far each has come."""

    def __init__(self, folder: Path, fstype: str) -> None:
        self.fstype = fstype
        self.counts = {name: folder / f"quota-{fstype}-{name}" for name in CALLS[fstype]}
        for path in self.counts.values():
            path.write_bytes(bytes(8))

    def done(self) -> dict[str, int]:
        """Finished calls of each."""
        found = {name: path.read_bytes() for name, path in self.counts.items()}
        return {name: int.from_bytes(data, "little") for name, data in found.items()}

    def waiting(self) -> list[str]:
        """Those that have to wait for the thaw."""
        return [
            name
            for name in self.counts
            if name != "read" and (self.fstype, name) not in MAY_NOT_WAIT
        ]

    def assert_all_get_on(self, since: dict[str, int], names: list[str]) -> None:
        """Two more each: the first may have been on its way before."""
        wait_for(lambda: all(self.done()[name] >= since[name] + 2 for name in names), PATIENCE)


@pytest.mark.parametrize("fstype", FSTYPES)
def test_quota_calls_while_frozen(lab: Lab, fstype: str) -> None:
    chosen = options(lab, fstype)
    known = bool(chosen) or fstype == "btrfs"
    name = "quota" if known else "quota (this kernel has none for it)"
    with scene(lab, name, fstype, **chosen) as play:
        calls = Calls(lab.folder, fstype)
        for call, path in calls.counts.items():
            made = play.filesystem
            play.start("quota_calls.py", call, made.device, made.mountpoint, path)
        calls.assert_all_get_on(calls.done(), list(calls.counts))
        for number in play.rounds(at_least=2):
            (play.filesystem.mountpoint / f"file-{number % 50}").write_bytes(bytes(number % 10000))
            play.freeze(timeout=4 * int(PATIENCE))
            before = calls.done()
            calls.assert_all_get_on(before, ["read"])
            gone_on = {call: calls.done()[call] - before[call] for call in calls.waiting()}
            # The one that was between the call and the count.
            assert max(gone_on.values()) <= 1, gone_on
            answer = play.thaw()
            assert answer["held"] is True
            calls.assert_all_get_on(calls.done(), list(calls.counts))
        play.counts["calls"] = sum(calls.done().values())
        play.end_children()
        for path in calls.counts.values():
            path.unlink()
        play.assert_quiet()
        play.check()
        play.report(freezes=2, thaws=2, calls=50, checks=1)
