# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.quiesce.storage.plugins.plugin_utils import _last_resort
from ansible_collections.quiesce.storage.plugins.plugin_utils._obstacles import look, obstacles
from ansible_collections.quiesce.storage.plugins.plugin_utils._quiet import QuietAction


class ActionModule(QuietAction):
    """Runs the module ``fsfreeze``; before a freeze, looks for what would block the thaw."""

    def _look_ahead(self) -> None:
        if self._task.args.get("state") != "frozen":
            return
        found = list(obstacles(self._connection))
        if found:
            for warning in look(found, self._paths(), self._execute):
                self._display.warning(warning)

    def _ask(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        answer = super()._ask(task_vars)
        thawing = self._task.args.get("state") == "thawed" and not self._task.check_mode
        # What a module that ran does not have in its answer.
        said = answer.get("module_stderr")
        if said is None or not thawing:
            return answer
        lease = str(self._task.args.get("lease") or "")
        thawed = _last_resort.thaw(
            self._execute_as_root, str(self._used_interpreter), lease, self._paths()
        )
        if thawed is None:
            return answer
        self._display.warning(
            "the module could not be run (%s), so the thaw was done without it"
            % str(said or answer.get("msg")).strip().rpartition("\n")[2]
        )
        return thawed

    def _execute(self, command: str) -> dict[str, Any]:
        done: dict[str, Any] = self._low_level_execute_command(command, sudoable=False)
        return done

    def _execute_as_root(self, command: str) -> dict[str, Any]:
        done: dict[str, Any] = self._low_level_execute_command(command)
        return done

    def _paths(self) -> list[str]:
        """The paths as far as they are understood here; the module judges them."""
        given = self._task.args.get("path", self._task.args.get("paths", []))
        if isinstance(given, str):
            given = given.split(",")
        return [path for path in given if isinstance(path, str)] if isinstance(given, list) else []
