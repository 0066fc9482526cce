# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from functools import partial

from ansible_collections.quiesce.storage.plugins.plugin_utils._obstacles import look, obstacles
from ansible_collections.quiesce.storage.plugins.plugin_utils._quiet import QuietAction


class ActionModule(QuietAction):
    """Runs the module ``fsfreeze``; before a freeze, looks for what would block the thaw."""

    def _look_ahead(self) -> None:
        if self._task.args.get("state") != "frozen":
            return
        found = list(obstacles(self._connection))
        if found:
            execute = partial(self._low_level_execute_command, sudoable=False)
            for warning in look(found, self._paths(), execute):
                self._display.warning(warning)

    def _paths(self) -> list[str]:
        """The paths as far as they are understood here; the module judges them."""
        given = self._task.args.get("path", self._task.args.get("paths", []))
        if isinstance(given, str):
            given = given.split(",")
        return [path for path in given if isinstance(path, str)] if isinstance(given, list) else []
