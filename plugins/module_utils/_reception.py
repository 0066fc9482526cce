# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guard waits for: pipes of its children, its socket, and those who talk over it."""

from __future__ import annotations

import select
import socket
from typing import Any, Callable

from ansible_collections.quiesce.storage.plugins.module_utils._wire import Line


class Reception:
    """One wait for everything; who is not root is not heard."""

    def __init__(
        self, answer: Callable[[Any, Line], dict[str, Any]], gone: Callable[[Line], None]
    ) -> None:
        """``answer`` is given what was said and by whom, ``gone`` who has broken off."""
        self._answer = answer
        self._gone = gone
        self._poller = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._lines: set[Line] = set()

    def listen(self, path: str) -> None:
        """Take connections at the socket ``path``."""
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(path)
        self._server.listen(16)
        self._server.setblocking(False)
        self.register(self._server.fileno(), self._accept)

    def register(self, fd: int, handler: Callable[[], None]) -> None:
        """Call ``handler`` whenever ``fd`` can be read, or has been closed."""
        self._handlers[fd] = handler
        self._poller.register(fd, select.POLLIN)

    def unregister(self, fd: int) -> None:
        """Look at ``fd`` no more."""
        self._handlers.pop(fd, None)
        self._poller.unregister(fd)

    def wait(self, seconds: float) -> None:
        """Handle what there is, or what comes within that time."""
        for fd, _event in self._poller.poll(seconds * 1000):
            handler = self._handlers.get(fd)
            if handler:
                handler()

    def add(self, line: Line) -> None:
        """Listen to one more."""
        self._lines.add(line)
        self.register(line.fileno(), lambda: self._read(line))

    def _accept(self) -> None:
        try:
            connection, _address = self._server.accept()
        except OSError:
            return
        line = Line(connection)
        if line.of_root():
            self.add(line)
        else:
            line.close()

    def _read(self, line: Line) -> None:
        for request in line.read():
            line.send(self._answer(request, line))
        if line.closed:
            self.unregister(line.fileno())
            self._lines.discard(line)
            line.close()
            self._gone(line)
