# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is not root is not heard at the socket of a guard, even where the folder lets anybody in."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._children import closed, fork
from ansible_collections.quiesce.storage.plugins.module_utils._reception import Reception
from ansible_collections.quiesce.storage.plugins.module_utils._wire import Line

NOBODY = 65534
ANSWER = b'{"ok": true}\n'


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Give a folder that others may enter."""
    with tempfile.TemporaryDirectory(prefix="quiesce-reception-", dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def ask(path: Path, uid: int, heard: int) -> None:
    """Ask for a thaw as that user, and pass on all that is answered."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(path))
        try:
            line.sendall(b'{"op": "thaw"}\n')
            os.write(heard, line.makefile("rb").readline() or b"the end\n")
        except (BrokenPipeError, ConnectionResetError):
            os.write(heard, b"the end\n")


@pytest.mark.parametrize(
    ("uid", "answer", "requests"),
    [(0, ANSWER, [{"op": "thaw"}]), (NOBODY, b"the end\n", []), (1, b"the end\n", [])],
)
def test_who_asks(open_to_all: Path, uid: int, answer: bytes, requests: list[Any]) -> None:
    said: list[Any] = []

    def hear(request: Any, _line: Line) -> dict[str, Any]:
        said.append(request)
        return {"ok": True}

    reception = Reception(hear, lambda _line: None)
    path = open_to_all / "socket"
    reception.listen(str(path))
    path.chmod(0o777)
    read, write = os.pipe()
    try:
        pid = fork(lambda: ask(path, uid, write), [write])
        os.close(write)
        end = time.monotonic() + 30
        while not closed(read, 0) and time.monotonic() < end:
            reception.wait(0.05)
        assert os.read(read, 100) == answer
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(read)
        vars(reception)["_server"].close()
    assert said == requests
