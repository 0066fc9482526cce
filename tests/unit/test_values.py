# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small values: times, options within their range, paths in messages, errnos in words."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _clock, _ioctl, _options
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._freeze import check_wish

DEFAULTS = {
    **{name: spec.get("default") for name, spec in _options.FREEZING.items()},
    "path": ["/srv"],
}


@pytest.mark.parametrize("moment", [None, 0, 0.0])
def test_no_moment_is_no_time(moment: float | None) -> None:
    assert _clock.iso(moment) is None


@pytest.mark.parametrize("seconds", [0, -3600, 60, 86400])
def test_a_moment_is_a_time_in_utc(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        text = _clock.iso(_clock.now() + seconds)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert text is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert moment.timestamp() == pytest.approx(time.time() + seconds, abs=5)


def test_setting_the_clock_does_not_move_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    before, wall = _clock.now(), time.time()
    monkeypatch.setattr(time, "time", lambda: wall + 1e6)
    assert 0 <= _clock.now() - before < 5


def wish(**options: Any) -> Any:
    """These options and the defaults, as one value."""
    return _options.wish({**DEFAULTS, **options})


def test_the_defaults_are_a_wish() -> None:
    assert wish()._asdict() == {
        "paths": ["/srv"],
        "timeout": 60,
        "lease": "",
        "freeze_timeout": 30,
        "flush": True,
        "flush_timeout": 30,
        "unsupported": "fail",
        "tied": False,
        "at": None,
    }
    assert _options.wish(DEFAULTS, tied=True).tied is True


def test_every_option_arrives_where_it_belongs() -> None:
    given = {
        "timeout": 1,
        "lease": "x",
        "freeze_timeout": 2,
        "flush": False,
        "flush_timeout": 3,
        "unsupported": "skip",
    }
    made = wish(path=["/a", "/b"], more="than asked for", **given)
    assert made._asdict() == {"paths": ["/a", "/b"], "tied": False, "at": None, **given}


@pytest.mark.parametrize(
    ("option", "low"), [("timeout", 0), ("freeze_timeout", 1), ("flush_timeout", 1)]
)
def test_ranges(option: str, low: int) -> None:
    for good in (low, low + 1, 86399, 86400):
        assert getattr(wish(**{option: good}), option) == good
    for bad in (low - 1, -(2**63), 86401, 2**63, 10**30):
        with pytest.raises(QuiesceError, match=f"^{option} must be {low} to 86400 .* {bad} is not"):
            wish(**{option: bad})


@pytest.mark.parametrize("lease", ["a/b", "x" * 65, "a\n", " "])
def test_a_bad_lease_is_no_wish(lease: str) -> None:
    with pytest.raises(QuiesceError, match="lease must be"):
        check_wish(wish()._replace(lease=lease))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/srv", "'/srv'"),
        ("/a'b", '"/a\'b"'),
        ("/a\nb\x1b[31m", r"'/a\nb\x1b[31m'"),
        ("/\udcff", r"'/\udcff'"),
        ("/ä", "'/ä'"),
        ("/" + "x" * 199, "'/" + "x" * 199 + "'"),
        ("/" + "x" * 200, "'/" + "x" * 196 + "...'"),
        ("", "''"),
    ],
)
def test_shown(path: str, text: str) -> None:
    assert shown(path) == text


def test_an_error_carries_its_sentence_and_what_is_known() -> None:
    error = QuiesceError("no", changed=False, lease=None)
    assert (str(error), error.message, error.result) == (
        "no",
        "no",
        {"changed": False, "lease": None},
    )
    assert QuiesceError("no").result == {}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EBUSY, "frozen already"),
        (errno.EOPNOTSUPP, "cannot be frozen"),
        (errno.ENOTTY, "cannot be frozen"),
        (errno.EPERM, "CAP_SYS_ADMIN"),
        (errno.EIO, "I/O error"),
        (errno.ENOSYS, "kernel cannot"),
        (errno.ENOSPC, "No space left"),
        (0, "Success"),
        (12345, "Unknown error"),
    ],
)
def test_errnos_in_words(number: int, words: str) -> None:
    assert words in _ioctl.meaning(number)


class Answer:
    """What the kernel says: nothing, or this errno."""

    def __init__(self, number: int) -> None:
        self._number = number

    def ioctl(self, _fd: int, request: int, _argument: int) -> None:
        assert request == _ioctl.FITHAW
        if self._number:
            raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize(
    ("number", "frozen"),
    [(0, True), (errno.EINVAL, False), (errno.EOPNOTSUPP, False), (errno.ENOTTY, False)],
)
def test_what_a_thaw_says_of_the_filesystem(
    monkeypatch: pytest.MonkeyPatch, number: int, frozen: bool
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", Answer(number).ioctl)
    assert _ioctl.thaw(-1) is frozen


@pytest.mark.parametrize("number", [errno.EIO, errno.EPERM, errno.EBADF])
def test_a_thaw_that_is_refused_says_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", Answer(number).ioctl)
    with pytest.raises(OSError, match=os.strerror(number)):
        _ioctl.thaw(-1)
