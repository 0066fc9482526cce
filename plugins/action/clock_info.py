# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# One word that needs no Python, and so is back in no time; GNU and busybox have it.
_COMMAND = "date +%s.%N"
_MOST_SAMPLES = 100


class ActionModule(ActionBase):
    """Compares the clock of the managed host with the controller's."""

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Ask for the time again and again: between question and answer it was what it was."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _valid, options = self.validate_argument_spec({"samples": {"type": "int", "default": 5}})
        if not 1 <= options["samples"] <= _MOST_SAMPLES:
            raise AnsibleActionFail(f"samples must be 1 to {_MOST_SAMPLES}")
        began = time.monotonic()
        # The first one may have to open the connection.
        bounds = [self._sample() for _number in range(options["samples"] + 1)][1:]
        low = max(after for after, _before in bounds)
        high = min(before for _after, before in bounds)
        # The least that agrees with all that was seen: clocks are mostly right.
        offset = min(max(0.0, low), high) if low <= high else None
        result.update(
            changed=False,
            low=low,
            high=high,
            offset=offset,
            uncertainty=None if offset is None else max(high - offset, offset - low),
            seconds=time.monotonic() - began,
            asked_at=time.time(),
        )
        if offset is None:
            result.update(
                failed=True,
                msg="a clock was set while they were compared: the host's was at least "
                f"{low:.3f} s ahead of the controller's, and at most {high:.3f} s; compare again",
            )
        return result

    def _sample(self) -> tuple[float, float]:
        """Bounds of the offset: the host's time less ours, after the answer and before."""
        before = time.time()
        done = self._low_level_execute_command(_COMMAND, sudoable=False)
        after = time.time()
        try:
            told = float(done["stdout"].split()[-1])
        except (ValueError, IndexError):
            said = (done["stdout"] + done["stderr"]).strip()
            raise AnsibleActionFail(f"{_COMMAND!r} on the host says no time, but: {said}") from None
        return told - after, told - before
