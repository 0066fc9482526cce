# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pytest fixtures that give tests a host with systemd as PID 1: see ``systemd_host``.

Load them by ``pytest_plugins = ["tests.kernel.systemd_fixture"]``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.kernel.systemd_host import SystemdHost


@pytest.fixture(scope="module")
def systemd_host() -> Iterator[SystemdHost]:
    """One host for all tests of a module: ext4 on / and /data, a persistent journal."""
    with SystemdHost() as host:
        yield host


@pytest.fixture
def thawed_systemd_host(systemd_host: SystemdHost) -> Iterator[SystemdHost]:
    """The module's host, with / and /data thawed after the test, whatever it did."""
    try:
        yield systemd_host
    finally:
        systemd_host.disarm_thaw()


@pytest.fixture
def new_systemd_host() -> Iterator[Callable[..., SystemdHost]]:
    """Start hosts for one test alone; takes the arguments of ``SystemdHost``."""
    with contextlib.ExitStack() as hosts:
        yield lambda **options: hosts.enter_context(SystemdHost(**options))
