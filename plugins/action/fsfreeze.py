# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.quiesce.storage.plugins.module_utils._agreed import LATER, moment
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._lease import is_name
from ansible_collections.quiesce.storage.plugins.plugin_utils import _direct
from ansible_collections.quiesce.storage.plugins.plugin_utils._obstacles import look, obstacles
from ansible_collections.quiesce.storage.plugins.plugin_utils._quiet import QuietAction

_SIMPLE = ({"path", "state", "lease"}, {"paths", "state", "lease"})
_DISCOVERED = "discovered_interpreter_python"
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
        lease = str(self._task.args.get("lease") or "")
        if not thawing:
            return self._agree(lease, task_vars) or super()._ask(task_vars)
        answer = self._again(
            lambda: self._ask_guard(lease, task_vars) or super(ActionModule, self)._ask(task_vars)
        )
        # What a module that ran does not have in its answer.
        said = answer.get("module_stderr")
        if said is None:
            return answer
        interpreter = str(self._used_interpreter).removeprefix("#!")
        thawed = _direct.thaw(self._execute_as_root, interpreter, lease, self._paths())
        if thawed is None:
            return answer
        self._display.warning(
            "the module could not be run (%s), so the thaw was done without it"
            % str(said or answer.get("msg")).strip().rpartition("\n")[2]
        )
        return thawed

    def _ask_guard(self, lease: str, task_vars: dict[str, Any]) -> dict[str, Any] | None:
        """Thaw without a module, if that is all there is to it."""
        # What only the module does: judge other options.
        simple = set(self._task.args) in _SIMPLE
        python = self._python(lease, task_vars) if simple else ""
        if not python:
            return None
        return _direct.release(self._execute_as_root, python, lease, self._paths())

    def _agree(self, lease: str, task_vars: dict[str, Any]) -> dict[str, Any] | None:
        """Agree on a time without a module, if a guard is armed already."""
        try:
            at = moment(str(self._task.args.get("at") or LATER))
        except QuiesceError:
            return None
        python = self._python(lease, task_vars) if at else ""
        if not python or self._task.check_mode:
            return None
        return _direct.agree(self._execute_as_root, python, lease, at, self._paths())

    def _python(self, lease: str, task_vars: dict[str, Any]) -> str:
        """Python on the managed host, if it is known, and a guard can be asked without a module."""
        python = str(task_vars.get("ansible_python_interpreter") or "")
        if not python.startswith("/"):
            python = (task_vars.get("ansible_facts") or {}).get(_DISCOVERED) or ""
        # Only the module tells a difference, and the interpreter of a host that the task is
        # delegated to is not known here.
        if self._task.diff or self._task.delegate_to or not is_name(lease):
            return ""
        return python

    def _again(self, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Ask, and while the host cannot be reached try again, for a while.

        That begins with the first failure, which may take long: of a connection that is open, ssh
        notices only then that it is dead.
        """
        give_up = 0.0
        while True:
            try:
                return ask()
            except AnsibleConnectionFailure:
                give_up = give_up or time.monotonic() + _THAW_RETRIES_SECONDS
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
