# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.quiesce.storage.plugins.plugin_utils import _last_resort
from ansible_collections.quiesce.storage.plugins.plugin_utils._obstacles import look, obstacles
from ansible_collections.quiesce.storage.plugins.plugin_utils._quiet import QuietAction

# A connection that is down for a moment must not cost the host the rest of its deadline.
_THAW_RETRIES_SECONDS = 15
_PAUSE_SECONDS = 1


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
        thawing = self._task.args.get("state") == "thawed" and not self._task.check_mode
        answer = self._ask_again(task_vars) if thawing else super()._ask(task_vars)
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

    def _ask_again(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Ask, and while the host cannot be reached try again, for a while."""
        give_up = time.monotonic() + _THAW_RETRIES_SECONDS
        while True:
            try:
                return super()._ask(task_vars)
            except AnsibleConnectionFailure:
                if time.monotonic() > give_up:
                    raise
            time.sleep(_PAUSE_SECONDS)

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
