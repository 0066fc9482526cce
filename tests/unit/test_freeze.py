# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A freeze under the name of a lease that is there already."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._filesystems import Filesystem
from ansible_collections.quiesce.storage.plugins.module_utils._freeze import Freeze, Wish
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import Held
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import Mount, Place

from tests.unit.records import record

LEASE = {"name": "x", "guard_pid": 4711, "deadline": "2026-11-21T01:06:55.000000Z"}
RECORD = record(lease=LEASE)


def freeze(own: Held, before: str = "frozen") -> Freeze:
    """A freeze of /srv under the lease ``x``, which is ``own``."""
    mount = Mount(device="8:1", mountpoint="/srv", fstype="xfs", source="/dev/vdb")
    each = Filesystem(Place("/srv", -1, True, mount))
    each.before = each.state = before
    made = Freeze.__new__(Freeze)
    wish = Wish(["/srv"], 60, "x", 30, True, 30, "fail")
    vars(made).update(wish=wish, warnings=[], left_out=[], set=[each], _leases=[own])
    return made


def says(phase: str = "held", held: bool = True, **member: Any) -> Held:
    """A lease whose guard says this of itself, and of /srv."""
    filesystems = [{"device": "8:1", "ours": True, "broken": None, **member}]
    status = {"lease": LEASE, "phase": phase, "held": held, "filesystems": filesystems}
    return Held("x", RECORD, True, status)


def test_what_it_holds_is_to_be_renewed() -> None:
    answer = freeze(says()).settled()
    assert answer is not None
    assert (answer["changed"], answer["renew"], answer["lease"]) == (False, "x", LEASE)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        # The kernel has not let go of what was to be frozen, whichever set is asked for.
        (says("ended", ours=False), "has ended, and its guard (pid 4711) still waits"),
        (says("ended"), "has ended, and its guard (pid 4711) still waits"),
        (says(device="8:2"), "is in use and does not hold /srv (xfs on /dev/vdb)"),
        (says(ours=False), "held /srv (xfs on /dev/vdb), and it was thawed on request"),
        (says(ours=False, broken="2026"), "(xfs on /dev/vdb), and it was thawed by somebody else"),
        (says(held=False), "is broken, and cannot be renewed"),
        (Held("x", RECORD, True, None), "which does not answer, until 2026-11-21T01:06:55"),
        (Held("x", RECORD, False, None), "(its guard is dead, so that nobody thaws it by itself)"),
    ],
)
@pytest.mark.parametrize("before", ["frozen", "thawed"])
def test_what_it_does_not_hold_whole_is_refused(own: Held, words: str, before: str) -> None:
    with pytest.raises(QuiesceError) as failed:
        freeze(own, before).settled()
    assert failed.value.message.startswith("nothing was changed: ")
    assert words in failed.value.message
    assert (failed.value.result["changed"], failed.value.result["lease"]) == (False, LEASE)
