# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a guard comes to its set."""

from __future__ import annotations

import errno
import gc
import socket

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._guard import Guard
from ansible_collections.quiesce.storage.plugins.module_utils._process import allow_many_descriptors
from ansible_collections.quiesce.storage.plugins.module_utils._wire import Line, receive_set

_FULL = (errno.ENOSPC, errno.EROFS)


def main(rendezvous: str) -> None:
    """Take a set from the client that listens at ``rendezvous``, and guard it to its end."""
    # Looking for garbage writes to every object, and would copy what the children share.
    gc.disable()
    allow_many_descriptors()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(rendezvous)
    request, fds = receive_set(connection)
    line = Line(connection)
    try:
        lock = _lease.claim(request["lease"])
        if lock is None:
            line.send({"event": "failed", "failure": {"reason": "lease_taken"}})
            return
        Guard(line, request, fds, lock).run()
    except Exception as error:
        # The second process thaws as soon as we are gone; this is for the one who asked.
        reason = "no_room" if getattr(error, "errno", 0) in _FULL else "crashed"
        line.send({"event": "failed", "failure": {"reason": reason, "error": repr(error)}})
        raise
