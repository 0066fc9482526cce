# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""That there is a second process for as long as something is held."""

from __future__ import annotations

import contextlib

from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._family import Family
from ansible_collections.quiesce.storage.plugins.module_utils._reception import Reception

# Between two attempts, where the host has no room for another one.
_RETRY_SECONDS = 0.25


class Standby:
    """Sees the second process of a family end, and has another one started."""

    def __init__(self, family: Family, reception: Reception) -> None:
        self._family = family
        self._reception = reception
        self._missing = False
        self._retry = 0.0
        self._watch()

    def keep(self) -> None:
        """Start another one if it is missing, or try that again."""
        if not self._missing or now() < self._retry:
            return
        self._retry = now() + _RETRY_SECONDS
        with contextlib.suppress(OSError):
            self._family.start_second()
            self._watch()
            self._missing = False

    def _watch(self) -> None:
        self._reception.register(self._family.second, self._lost)

    def _lost(self) -> None:
        self._reception.unregister(self._family.second)
        self._missing = True
