# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard on a host that has no room for another second process."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._family import Family
from ansible_collections.quiesce.storage.plugins.module_utils._reception import Reception
from ansible_collections.quiesce.storage.plugins.module_utils._standby import Standby


def refuse() -> tuple[int, int]:
    """What pipe(2) says to a process that has too many files open."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_its_pipe_is_left_alone_where_there_is_none_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else its number is somebody else's by the next attempt, and that one is closed."""
    family = Family.__new__(Family)
    family.second, write = os.pipe()
    try:
        reception = Reception(lambda _request, _line: {}, lambda _line: None)
        standby = Standby(family, reception)
        os.close(write)
        reception.wait(1.0)
        monkeypatch.setattr(os, "pipe", refuse)
        before = family.second
        standby.keep()
        assert family.second == before
        assert os.read(family.second, 1) == b""
    finally:
        os.close(family.second)
