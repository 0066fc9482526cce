# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load has sent to a database and when it was acknowledged, noted outside of it.

Each client of a load numbers its transactions from 1, and sends one when the last is acknowledged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Snapshot:
    """What a recovered snapshot holds, and when it was taken (seconds since the epoch).

    ``tables`` are those that transactions are noted in: for each client how many are there, and the
    highest number of them.
    """

    frozen_at: float
    thawed_at: float
    tables: Sequence[Mapping[int, tuple[int, int]]]


@dataclass
class Ledger:
    """The acknowledged transactions of each client in order: when it was sent, and acknowledged."""

    clients: dict[int, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, client: int, sent: float, acknowledged: float) -> None:
        """Note the next transaction of a client; times are seconds since the epoch."""
        self.clients[client].append((sent, acknowledged))

    def acknowledged(self, moment: float) -> int:
        """How many transactions of all clients were acknowledged before a moment."""
        return sum(_acknowledged(each, moment) for each in self.clients.values())

    def faults(self, snapshot: Snapshot) -> list[str]:
        """What is missing in a snapshot, or should not be there; a sentence each."""
        return [fault for table in snapshot.tables for fault in self._faults(snapshot, table)]

    def _faults(self, snapshot: Snapshot, table: Mapping[int, tuple[int, int]]) -> Iterable[str]:
        for client, transactions in sorted(self.clients.items()):
            count, highest = table.get(client, (0, 0))
            least = _acknowledged(transactions, snapshot.frozen_at)
            # One more than those acknowledged may have been under way at the end of the load.
            most = sum(sent < snapshot.thawed_at for sent, _acknowledged in transactions)
            most += most == len(transactions)
            if count != highest:
                yield f"client {client}: {count} transactions, and the last is number {highest}"
            if highest < least:
                yield f"client {client}: {highest} of {least} acknowledged before the freeze"
            if highest > most:
                yield f"client {client}: {highest}, and {most} were sent before the thaw"


def _acknowledged(transactions: Iterable[tuple[float, float]], moment: float) -> int:
    return sum(acknowledged < moment for _sent, acknowledged in transactions)
