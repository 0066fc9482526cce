# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that the properties are tried on."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# What os.fsdecode makes of bytes: letters, and bytes that are no UTF-8.
NAMES = st.binary(max_size=12).filter(lambda raw: b"\0" not in raw)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.sampled_from([10**400, -(10**400), 2**63, 86400, 86401])
    | st.floats()
    | st.text(max_size=20)
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=6,
)


def like(valid: Any) -> st.SearchStrategy[Any]:
    """Values like this one, here and there replaced, gone or made longer."""
    parts: st.SearchStrategy[Any] = st.just(valid)
    if isinstance(valid, dict):
        inner = {key: like(value) for key, value in valid.items()}
        parts |= st.fixed_dictionaries({}, optional=inner)
        parts |= st.fixed_dictionaries(inner)
    elif isinstance(valid, list):
        parts |= st.lists(st.one_of(JSON, *map(like, valid)), max_size=4)
    return parts | JSON


def cut(value: Any) -> st.SearchStrategy[bytes]:
    """A value as JSON, whole or not."""
    whole = json.dumps(value).encode()
    return st.just(whole) | st.integers(0, len(whole)).map(lambda length: whole[:length])
