# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thaw without a module: what the host says to it, and when it cannot be reached."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.quiesce.storage.plugins.action import fsfreeze
from ansible_collections.quiesce.storage.plugins.plugin_utils import _direct

ANSWER = json.dumps(
    {
        "ok": True,
        "changed": True,
        "held": True,
        "thawed_by": None,
        "frozen_seconds": 1.5,
        "lease": {"name": "l"},
        "filesystems": [],
    }
)


def says(stdout: str) -> Callable[[str], dict[str, Any]]:
    return lambda _command: {"stdout": stdout}


@pytest.mark.parametrize(
    "stdout",
    [
        ANSWER,
        f"{ANSWER}\n\n",
        f"Welcome to db1\n{ANSWER}\n\n",
        f"{{motd}}\n{ANSWER}\n",
        f"{ANSWER}\nGoodbye\n",
    ],
)
def test_an_answer_is_understood_whatever_the_shell_says(stdout: str) -> None:
    answer = _direct.release(says(stdout), "/usr/bin/python3", "l", ["/srv"])
    assert answer is not None
    assert (answer["changed"], answer["held"], answer["thawed_by"]) == (True, True, "request")


@pytest.mark.parametrize("stdout", ["", "\n", "Welcome\n", "{\n", "[]", '{"ok": false}\n', "7"])
def test_what_is_no_answer_is_none(stdout: str) -> None:
    assert _direct.release(says(stdout), "/usr/bin/python3", "l", ["/srv"]) is None


class Host:
    """Cannot be reached for so many attempts, each of which takes so many seconds to notice."""

    def __init__(self, failures: int, seconds: float) -> None:
        self._failures, self._seconds = failures, seconds
        self.attempts = 0
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self) -> dict[str, Any]:
        self.attempts += 1
        if self.attempts <= self._failures:
            self.now += self._seconds
            raise AnsibleConnectionFailure("no route")
        return {"changed": True}


def again(host: Host, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(fsfreeze, "time", host)
    action = fsfreeze.ActionModule.__new__(fsfreeze.ActionModule)
    return action._again(host.ask)


@pytest.mark.parametrize("seconds", [0.0, 3.0, 90.0])
def test_a_dead_connection_is_begun_anew(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """However long it took to notice that it was dead."""
    host = Host(1, seconds)
    assert again(host, monkeypatch) == {"changed": True}


@pytest.mark.parametrize("seconds", [0.0, 3.0, 90.0])
def test_a_host_that_stays_away_is_given_up(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    host = Host(1000, seconds)
    with pytest.raises(AnsibleConnectionFailure):
        again(host, monkeypatch)
    assert host.now - 1000 <= 15 + 2 * seconds + 2
