# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of qemu's monitor, and what it makes of answers that no qemu gives."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._qmp import Qmp

GREETING = '{"QMP": {"version": {}, "capabilities": []}}'
Answer = Callable[[str], list[str]]


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Give a function that listens as a monitor does, and returns its socket's path."""
    listener = socket.socket(socket.AF_UNIX)
    # Longer than the address of a socket may be.
    folder = tmp_path / ("long" * 30)
    folder.mkdir()

    def listen(greeting: str = GREETING, answer: Answer = lambda _command: ['{"return": {}}']):
        fd = os.open(folder, os.O_PATH)
        listener.bind(f"/proc/self/fd/{fd}/qmp")
        os.close(fd)
        listener.listen()

        def serve() -> None:
            client = listener.accept()[0]
            with client, client.makefile("rw") as stream:
                stream.write(greeting + "\n")
                stream.flush()
                for line in stream:
                    for each in answer(json.loads(line)["execute"]):
                        stream.write(each + "\n")
                    stream.flush()

        threading.Thread(target=serve, daemon=True).start()
        return str(folder / "qmp")

    yield listen
    listener.close()


def test_an_answer_between_events(monitor: Callable[..., str]) -> None:
    said = ['{"event": "STOP"}', '{"return": {"status": "running"}}']
    with Qmp(monitor(answer=lambda _command: said)) as qmp:
        assert qmp.execute("query-status") == {"status": "running"}
        assert qmp.pid() == os.getpid()


def test_a_command_that_fails(monitor: Callable[..., str]) -> None:
    def answer(command: str) -> list[str]:
        failed = '{"error": {"class": "GenericError", "desc": "no such disk"}}'
        return ['{"return": {}}'] if command == "qmp_capabilities" else [failed]

    with Qmp(monitor(answer=answer)) as qmp:
        for _again in range(2):
            with pytest.raises(QuiesceError, match="blockdev-del: no such disk"):
                qmp.execute("blockdev-del")


@pytest.mark.parametrize("greeting", ["{}", "[]", "hello", '{"QMP":'])
def test_what_is_no_monitor(monitor: Callable[..., str], greeting: str) -> None:
    with pytest.raises(QuiesceError, match=r"is not the socket of|no answer from"):
        Qmp(monitor(greeting))


def test_no_answer(monitor: Callable[..., str]) -> None:
    answers: dict[str, Any] = {"qmp_capabilities": ['{"return": {}}']}
    with (
        Qmp(monitor(answer=lambda command: answers.get(command, [])), timeout=0.2) as qmp,
        pytest.raises(QuiesceError, match="another program may be connected"),
    ):
        qmp.execute("query-status")


def test_a_machine_that_has_ended(monitor: Callable[..., str]) -> None:
    """What could not be sent to it is no reason to fail once more at the end."""
    with Qmp(monitor(answer=lambda _command: ['{"return": {}}'])) as qmp:
        vars(qmp)["_socket"].shutdown(socket.SHUT_RDWR)
        with pytest.raises(QuiesceError, match="it may have ended"):
            qmp.execute("query-status")


def test_nobody_listens(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("none", "none/none", "file"):
        with pytest.raises(QuiesceError, match="no virtual machine listens at"):
            Qmp(str(tmp_path / path))
