# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as people write them, and what is none."""

from __future__ import annotations

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._agreed import moment
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("later", 0.0),
        ("1795223155", 1795223155.0),
        ("1795223155.5", 1795223155.5),
        ("1970-01-01T00:00:05Z", 5.0),
        ("1970-01-01T00:00:05.5Z", 5.5),
        ("1970-01-01 00:00:05,25z", 5.25),
        ("1970-01-01T00:00:05.123456789Z", 5.123456),
        ("1970-01-01T01:00:05+01:00", 5.0),
        ("1970-01-01T01:00:05+0100", 5.0),
        ("1969-12-31T19:00:05.000-05:00", 5.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert moment(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither"),
        ("now", "neither"),
        ("1970-01-01", "neither"),
        ("1970-01-01T00:00Z", "neither"),
        ("-5", "neither"),
        ("1e9", "neither"),
        ("nan", "neither"),
        ("0", "1970 is over"),
        ("1970-01-01T00:00:05", "another time on every host"),
        ("1970-13-01T00:00:05Z", "month"),
        ("1970-01-01T25:00:05Z", "hour"),
        ("1970-01-01T00:00:05+99:00", "at: "),
        ("2999-01-01T00:00:00Z", "more than a day ahead"),
    ],
)
def test_what_is_no_time(text: str, why: str) -> None:
    with pytest.raises(QuiesceError, match=why):
        moment(text)
