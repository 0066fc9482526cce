# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thaw that needs no file, no module and next to no memory on the managed host.

For when the module could not even begin: its payload did not fit into the memory that is left,
or it was killed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

# Under a lease only its guard knows what may be thawed. It answers from memory.
_SCRIPT = """
import fcntl, json, os, socket, sys
lease, paths = json.loads(sys.argv[1])
if lease:
    guard = socket.socket(socket.AF_UNIX)
    guard.settimeout(5)
    guard.connect("/run/quiesce/lease-%s/socket" % lease)
    guard.sendall(b'{"op": "thaw", "devices": null}\\n')
    print(guard.makefile().readline())
else:
    thawed = False
    for path in paths:
        try:
            fcntl.ioctl(os.open(path, os.O_RDONLY), 0xC0045878, 0)
            thawed = True
        except OSError:
            pass
    print(json.dumps({"ok": True, "changed": thawed}))
"""
_UNKNOWN = {"mountpoint": "", "source": "", "fstype": "", "before": "unknown", "state": "unknown"}


def thaw(
    execute: Callable[[str], dict[str, Any]], interpreter: str, lease: str, paths: Sequence[str]
) -> dict[str, Any] | None:
    """Thaw all of a lease, or where none is named these paths; the answer of the module as far as
    it is known, or None.

    :param execute: runs a shell command on the managed host, as root.
    :param interpreter: the shebang of the module.
    """
    python = shlex.split(interpreter.removeprefix("#!"))
    command = [*python, "-I", "-S", "-B", "-c", _SCRIPT, json.dumps([lease, list(paths)])]
    try:
        answer = json.loads(execute(shlex.join(command))["stdout"])
    except ValueError:
        return None
    if not isinstance(answer, dict) or not answer.get("ok"):
        return None
    by = (answer.get("thawed_by") or "request") if lease else None
    return {
        "changed": answer["changed"],
        "filesystems": [{"path": path, "device": "", **_UNKNOWN} for path in paths],
        "lease": answer.get("lease"),
        "held": answer.get("held"),
        "thawed_by": by,
        "frozen_seconds": answer.get("frozen_seconds"),
    }
