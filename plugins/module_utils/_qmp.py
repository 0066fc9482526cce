# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""qemu's monitor protocol (QMP, docs/interop/qmp-spec of qemu), over a unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown

_CREDENTIALS = struct.Struct("iII")


class Qmp:
    """A connection to a virtual machine's monitor; a context manager."""

    def __init__(self, path: str, timeout: float = 30.0) -> None:
        """Connect; ``QuiesceError`` when nobody answers within ``timeout`` seconds.

        That holds for each answer later on as well.
        """
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._stream = self._socket.makefile("rwb")
        try:
            self._connect()
            if "QMP" not in self._receive():
                raise QuiesceError("%s is not the socket of a QMP monitor" % shown(path))
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; another one can begin then."""
        with contextlib.suppress(OSError):
            # What could not be sent is still to be, and there may be nobody to take it.
            self._stream.close()
        self._socket.close()

    def pid(self) -> int:
        """The process that listens; 0 if it is not of this machine."""
        found = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(found)[0])

    def execute(self, command: str, **arguments: Any) -> Any:
        """Give a command, and return what it returns.

        ``QuiesceError``: it failed, or there was no answer in time.
        """
        request = {"execute": command, "arguments": arguments}
        try:
            self._stream.write(json.dumps(request).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise self._silent(error) from error
        while True:
            message = self._receive()
            if "error" in message:
                raise QuiesceError("%s: %s" % (command, message["error"].get("desc")))
            if "return" in message:
                return message["return"]

    def _connect(self) -> None:
        folder, name = os.path.split(self.path)
        try:
            # The whole path can be longer than the address of a socket may be.
            fd = os.open(folder or ".", os.O_PATH)
            try:
                self._socket.connect("/proc/self/fd/%d/%s" % (fd, name))
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise QuiesceError(
                "no virtual machine listens at %s: %s" % (shown(self.path), error)
            ) from error

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
            message = json.loads(line)
        except (OSError, ValueError) as error:
            raise self._silent(error) from error
        if not isinstance(message, dict):
            raise self._silent(message)
        return message

    def _silent(self, why: Any) -> QuiesceError:
        return QuiesceError(
            "no answer from the virtual machine at %s (%s); it may have ended, or another program "
            "may be connected to this monitor" % (shown(self.path), why)
        )
