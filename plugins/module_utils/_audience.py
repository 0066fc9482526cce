# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told by a guard how it goes on, without asking."""

from __future__ import annotations

from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._wire import Line


class Audience:
    """The client that asked for the freeze, for as long as it waits for it, and who listens."""

    def __init__(self, client: Line) -> None:
        self.client: Line | None = client
        self._listeners: set[Line] = set()

    def add(self, line: Line) -> None:
        """Tell one more from now on."""
        self._listeners.add(line)

    def answered(self) -> None:
        """The client has been told what it waits for, and may go."""
        if self.client:
            self._listeners.add(self.client)
            self.client = None

    def leave(self, line: Line) -> bool:
        """One has broken off; whether that was the client, and it still waited."""
        self._listeners.discard(line)
        if line is not self.client:
            return False
        self.client = None
        return True

    def tell(self, message: dict[str, Any]) -> bool:
        """Tell all of them; whether the client, if it still waits, could be told."""
        for line in self._listeners:
            line.send(message)
        return self.client is None or self.client.send(message)
