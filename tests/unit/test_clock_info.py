# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing the clock of a host that is ahead, behind, being set, or that tells no time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.quiesce.storage.plugins.action import clock_info


class Host:
    """Its clock is so many seconds ahead at each question; to ask and to answer take time."""

    def __init__(self, *ahead: float, there: float = 0.02, back: float = 0.02) -> None:
        self._ahead = list(ahead)
        self._there, self._back = there, back
        self._now = 1_700_000_000.0
        self.asked = 0
        # In place of the time.
        self.says: dict[str, Any] | None = None
        # What the shell says before it.
        self.greeting = ""

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def execute(self, _command: str, sudoable: bool) -> dict[str, Any]:
        assert not sudoable
        self._now += self._there
        told = self._now + self._ahead[min(self.asked, len(self._ahead) - 1)]
        self._now += self._back
        self.asked += 1
        return self.says or {"stdout": f"{self.greeting}{told:.9f}\n", "stderr": ""}


def compare(host: Host, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    """What the action returns."""
    monkeypatch.setattr(clock_info, "time", host)
    action = clock_info.ActionModule(
        task=SimpleNamespace(args=options, async_val=0, check_mode=False, action="clock_info"),
        connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir="/made/already")),
        play_context=None,
        loader=None,
        templar=None,
    )
    monkeypatch.setattr(action, "_low_level_execute_command", host.execute)
    return action.run()


@pytest.mark.parametrize(
    ("ahead", "offset"), [(2.5, 2.48), (-2.5, -2.48), (0.0, 0.0), (0.01, 0.0), (-0.02, 0.0)]
)
def test_the_least_that_agrees_with_all(
    monkeypatch: pytest.MonkeyPatch, ahead: float, offset: float
) -> None:
    answer = compare(Host(ahead), monkeypatch)
    assert "failed" not in answer
    assert answer["low"] == pytest.approx(ahead - 0.02, abs=1e-5)
    assert answer["high"] == pytest.approx(ahead + 0.02, abs=1e-5)
    assert answer["offset"] == pytest.approx(offset, abs=1e-5)
    assert abs(ahead - answer["offset"]) <= answer["uncertainty"] + 1e-5
    assert answer["changed"] is False


@pytest.mark.parametrize(("there", "back"), [(0.001, 0.4), (0.4, 0.001)])
def test_a_way_that_is_longer_than_back(
    monkeypatch: pytest.MonkeyPatch, there: float, back: float
) -> None:
    """Nothing is believed that only a way of the same length both times would tell."""
    answer = compare(Host(1.0, there=there, back=back), monkeypatch)
    assert answer["low"] <= 1.0 <= answer["high"]
    assert answer["high"] - answer["low"] == pytest.approx(there + back, abs=1e-5)


def test_the_first_answer_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection may not have been open yet."""
    answer = compare(Host(1000.0, 1.0), monkeypatch)
    assert answer["offset"] == pytest.approx(0.98, abs=1e-5)


@pytest.mark.parametrize("ahead", [(0.0, 0.0, 0.0, 3.0), (0.0, 3.0, 0.0), (0.0, 1.0, 0.5, 0.0)])
def test_a_clock_that_is_set_meanwhile(
    monkeypatch: pytest.MonkeyPatch, ahead: tuple[float, ...]
) -> None:
    answer = compare(Host(*ahead), monkeypatch)
    assert answer["failed"] is True
    assert answer["low"] > answer["high"]
    assert answer["offset"] is answer["uncertainty"] is None
    least, most = max(ahead[1:]) - 0.02, min(ahead[1:]) + 0.02
    assert "a clock was set while they were compared" in answer["msg"]
    assert (
        f"at least {least:.3f} s ahead of the controller's, and at most {most:.3f} s"
        in (answer["msg"])
    )


@pytest.mark.parametrize(
    ("stdout", "stderr", "said"),
    [
        ("", "sh: date: not found\n", "sh: date: not found"),
        ("1700000000.%N\n", "", "1700000000.%N"),
        ("no time\n", "today", "no time\ntoday"),
    ],
)
def test_a_host_that_tells_no_time(
    monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str, said: str
) -> None:
    host = Host(0.0)
    host.says = {"stdout": stdout, "stderr": stderr}
    with pytest.raises(AnsibleActionFail) as failed:
        compare(host, monkeypatch)
    assert str(failed.value) == f"'date +%s.%N' on the host says no time, but: {said}"


def test_a_shell_that_says_more_than_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(0.5)
    host.greeting = "Welcome to db1, it is 12.30 o'clock\n"
    assert compare(host, monkeypatch)["offset"] == pytest.approx(0.48, abs=1e-5)


@pytest.mark.parametrize("samples", [0, -1, 101, "0"])
def test_too_few_samples_and_too_many(monkeypatch: pytest.MonkeyPatch, samples: Any) -> None:
    host = Host(0.0)
    with pytest.raises(AnsibleActionFail, match=r"^samples must be 1 to 100"):
        compare(host, monkeypatch, samples=samples)
    assert host.asked == 0


@pytest.mark.parametrize("options", [{"samples": "many"}, {"samples": 1.5}, {"sample": 1}])
def test_what_is_no_option(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    host = Host(0.0)
    with pytest.raises(AnsibleActionFail, match="sample"):
        compare(host, monkeypatch, **options)
    assert host.asked == 0


@pytest.mark.parametrize(
    ("options", "asked"), [({}, 6), ({"samples": 1}, 2), ({"samples": 100}, 101)]
)
def test_how_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], asked: int
) -> None:
    host = Host(0.0)
    compare(host, monkeypatch, **options)
    assert host.asked == asked
