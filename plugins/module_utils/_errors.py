# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that a module turns into ``fail_json``."""

from __future__ import annotations

from typing import Any

# A path in a message: enough to know it by.
_SHOWN = 200


def shown(path: str) -> str:
    """A path as messages quote it, control characters escaped, and not without end."""
    return repr(path if len(path) <= _SHOWN else path[: _SHOWN - 3] + "...")


class QuiesceError(Exception):
    """A sentence for the administrator, and what is known so far.

    ``message`` names the object, the cause and what to do next.
    ``result`` is merged into what the module returns, so that a failure still
    says which filesystems are in which state.
    """

    def __init__(self, message: str, **result: Any) -> None:
        super().__init__(message)
        self.message = message
        self.result = result
