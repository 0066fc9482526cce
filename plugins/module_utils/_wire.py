# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of JSON over a unix socket, and a set of filesystems with its descriptors."""

from __future__ import annotations

import array
import contextlib
import json
import socket
import struct
from typing import Any

# A set of a thousand filesystems with long paths stays well below this.
_LINE_BYTES = 8 << 20
_BUFFER_BYTES = 4 << 20
_SO_SNDBUFFORCE = 32
# The guard has a deadline to keep, and waits for nobody for longer.
_SEND_SECONDS = 0.1


class WireError(Exception):
    """The other side broke off, or said what cannot be understood."""


class Line:
    """One connection of the guard: hardly ever blocks, drops what is not a line of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._partial = b""
        self.closed = False
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
        connection.setblocking(False)

    def fileno(self) -> int:
        """The descriptor, for poll."""
        return self._socket.fileno()

    def of_root(self) -> bool:
        """Whether the other side runs as root."""
        size = struct.calcsize("3i")
        peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return bool(struct.unpack("3i", peer)[1] == 0)

    def read(self) -> list[Any]:
        """Whatever whole messages have come; None for one that is not JSON."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        self.closed = not data or len(self._partial) > _LINE_BYTES
        return [_parse(line) for line in lines]

    def send(self, message: dict[str, Any]) -> bool:
        """Send if the other side takes it; else break off, so that it does not get half of it.

        :return: whether it was sent.
        """
        try:
            self._socket.settimeout(_SEND_SECONDS)
            self._socket.sendall(encode(message))
            self._socket.setblocking(False)
        except OSError:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def encode(message: dict[str, Any]) -> bytes:
    """A message as it goes over the wire."""
    return json.dumps(message).encode("ascii") + b"\n"


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def send_set(connection: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
    """Send a request and the descriptors of its filesystems, one after another."""
    connection.sendall(encode(request))
    for fd in fds:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        connection.sendmsg([b"F"], rights)


def receive_set(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What ``send_set`` sent; ``WireError`` when it did not come whole."""
    line = b""
    while not line.endswith(b"\n"):
        # No further than the line: what follows it must stay with its descriptors.
        piece = connection.recv(65536, socket.MSG_PEEK)
        end = piece.find(b"\n")
        taken = connection.recv(end + 1 if end >= 0 else len(piece))
        if not piece or len(line) > _LINE_BYTES:
            raise WireError("the request did not come whole")
        line += taken
    request = _parse(line)
    if not isinstance(request, dict) or not isinstance(request.get("filesystems"), list):
        raise WireError("the request is not understood")
    fds = []
    for _member in request["filesystems"]:
        data, ancillary, _flags, _address = connection.recvmsg(1, socket.CMSG_LEN(4))
        if not data or not ancillary:
            raise WireError("a descriptor is missing")
        fds.append(struct.unpack("=i", ancillary[0][2][:4])[0])
    return request, fds
