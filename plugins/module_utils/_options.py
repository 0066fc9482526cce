# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that fsfreeze and fsfreeze_run share."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.quiesce.storage.plugins.module_utils._freeze import Wish, check_wish

FREEZING: dict[str, Any] = {
    "path": {"type": "list", "elements": "path", "required": True, "aliases": ["paths"]},
    "timeout": {"type": "int", "default": 60},
    "lease": {"type": "str", "default": ""},
    "freeze_timeout": {"type": "int", "default": 30},
    "flush": {"type": "bool", "default": True},
    "flush_timeout": {"type": "int", "default": 30},
    "unsupported": {"type": "str", "choices": ["fail", "skip", "remount_ro"], "default": "fail"},
}


def wish(params: Mapping[str, Any], tied: bool = False) -> Wish:
    """The options as one value; ``QuiesceError`` for one out of its range."""
    wanted = Wish(
        paths=params["path"],
        tied=tied,
        **{key: params[key] for key in FREEZING if key != "path"},
    )
    check_wish(wanted)
    return wanted
