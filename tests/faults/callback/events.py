# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what happens in a play to the file that QUIESCE_EVENTS names, a line of JSON each."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: events
type: notification
short_description: Write what happens in a play to a file
description: A line of JSON for each beginning and each end of a task on a host.
"""


class CallbackModule(CallbackBase):
    """A line for each beginning and each end of a task on a host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "events"

    def __init__(self) -> None:
        super().__init__()
        self._fd = os.open(os.environ["QUIESCE_EVENTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        # What Ansible sends to a host is the same for all plays, and building it takes a second.
        built = os.environ["QUIESCE_BUILT"]
        os.symlink(built, os.path.join(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache"))

    def _write(self, event: str, host: Any, task: Any, result: Any = None) -> None:
        line = {"event": event, "host": host.get_name(), "task": task.get_name()}
        line.update(at=time.monotonic(), result=result or {})
        os.write(self._fd, (json.dumps(line, default=str) + "\n").encode())

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._write("start", host, task)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write("ok", result.host, result.task, result.result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write("failed", result.host, result.task, result.result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write("unreachable", result.host, result.task, result.result)
