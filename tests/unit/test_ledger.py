# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests with databases hold a snapshot to: the judge finds what is wrong."""

from __future__ import annotations

import pytest

from tests.applications.ledger import Ledger, Snapshot


@pytest.fixture
def ledger() -> Ledger:
    """Two clients: transaction n is sent at n + 0.1 and acknowledged at n + 0.5, n up to 9."""
    made = Ledger()
    for client in (0, 1):
        for number in range(1, 10):
            made.add(client, number + 0.1, number + 0.5)
    return made


def snapshot(*tables: dict[int, tuple[int, int]]) -> Snapshot:
    """Frozen while transaction 5 was under way, until 6 was."""
    return Snapshot(5.2, 6.2, tables)


@pytest.mark.parametrize("highest", [4, 5, 6])
def test_what_may_be_there(ledger: Ledger, highest: int) -> None:
    assert ledger.acknowledged(5.2) == 8
    assert not ledger.faults(snapshot({0: (highest, highest), 1: (4, 4)}))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({0: (3, 3), 1: (4, 4)}, "client 0: 3 of 4 acknowledged before the freeze"),
        ({1: (4, 4)}, "client 0: 0 of 4 acknowledged before the freeze"),
        ({0: (7, 7), 1: (4, 4)}, "client 0: 7, and 6 were sent before the thaw"),
        ({0: (4, 4), 1: (4, 5)}, "client 1: 4 transactions, and the last is number 5"),
    ],
)
def test_what_is_wrong(ledger: Ledger, found: dict[int, tuple[int, int]], told: str) -> None:
    good = {0: (5, 5), 1: (5, 5)}
    assert ledger.faults(snapshot(good, found)) == [told]


def test_one_that_was_never_acknowledged(ledger: Ledger) -> None:
    """The load was ended while it was under way."""
    late = Snapshot(20.0, 21.0, [{0: (10, 10), 1: (9, 9)}])
    assert not ledger.faults(late)
    assert ledger.faults(Snapshot(20.0, 21.0, [{0: (11, 11), 1: (9, 9)}]))
