# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of any value: a wish within its ranges, or one sentence that says why not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.quiesce.storage.plugins.module_utils import _options
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._filesystems import resolve
from ansible_collections.quiesce.storage.plugins.module_utils._freeze import Wish
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.strategies import SCALARS

SECONDS = st.integers(-2, 3) | st.integers(86398, 86402) | st.integers() | SCALARS
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
OPTIONS = st.fixed_dictionaries(
    {"path": st.lists(TEXT, max_size=3) | SCALARS},
    optional={
        "timeout": SECONDS,
        "freeze_timeout": SECONDS,
        "flush_timeout": SECONDS,
        "lease": TEXT | st.from_regex(r"[A-Za-z0-9._-]{1,66}", fullmatch=True) | SCALARS,
        "flush": SCALARS | st.sampled_from(["yes", "off", "0", 1, "maybe"]),
        "unsupported": st.sampled_from(["fail", "skip", "remount_ro", "ignore", ""]) | SCALARS,
    },
)


def understood(wish: Wish) -> None:
    """What a freeze relies on."""
    assert all(isinstance(path, str) for path in wish.paths)
    for seconds, low in ((wish.timeout, 0), (wish.freeze_timeout, 1), (wish.flush_timeout, 1)):
        assert isinstance(seconds, int)
        assert low <= seconds <= 86400
    assert wish.lease == "" or re.fullmatch(r"[A-Za-z0-9._-]{1,64}", wish.lease, re.ASCII)
    assert isinstance(wish.flush, bool)
    assert wish.unsupported in ("fail", "skip", "remount_ro")


@given(OPTIONS)
def test_options(options: dict[str, Any]) -> None:
    """By the way that AnsibleModule goes: its validation, then ours."""
    try:
        result = ArgumentSpecValidator(_options.FREEZING).validate(options)
    except OverflowError:
        # Ansible's own: it takes "infinity" for a number, and cannot make it an int.
        assert re.search("inf", str(options), re.IGNORECASE)
        return
    if result.error_messages:
        return
    try:
        understood(_options.wish(result.validated_parameters))
        return
    except QuiesceError as error:
        message = error.message
    assert re.match(r"(timeout|freeze_timeout|flush_timeout|lease) must be ", message)
    assert "\n" not in message


@given(TEXT)
def test_paths_in_messages(path: str) -> None:
    text = shown(path)
    assert text.isprintable()
    assert len(text) <= 200 * 10 + 2
    if len(path) <= 200:
        assert eval(text, {}) == path


ABSENT = st.builds(lambda name: f"/no/such/folder{name}", TEXT) | TEXT.filter(
    lambda path: not path.startswith("/")
)


@given(st.lists(ABSENT, max_size=2))
def test_paths_that_are_not_there(paths: list[str]) -> None:
    with pytest.raises(QuiesceError, match=r"\Apath ") as refused:
        resolve(paths)
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 3000
