# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thaw that needs no file, no module and next to no memory on the managed host.

It is tried first, since it asks the least of a host whose disks are frozen, and is the shortest
way. The guard says no where there is more to be told than that all went well; then the module is
sent, which looks at the kernel itself. And it is the last resort, for when the module could not
even begin: its payload did not fit into the memory that is left, or it was killed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

# Under a lease only its guard knows what may be thawed. It answers from memory.
_SCRIPT = """
import fcntl, json, os, socket, sys
lease, message, paths = json.loads(sys.argv[1])
if lease:
    guard = socket.socket(socket.AF_UNIX)
    guard.settimeout(5)
    guard.connect("/run/quiesce/lease-%s/socket" % lease)
    guard.sendall(json.dumps(message).encode() + b"\\n")
    print("\\n" + guard.makefile().readline())
else:
    thawed = False
    for path in paths:
        try:
            fcntl.ioctl(os.open(path, os.O_RDONLY), 0xC0045878, 0)
            thawed = True
        except OSError:
            pass
    print("\\n" + json.dumps({"ok": True, "changed": thawed}))
"""
_TAKEN = ("flush_seconds", "freeze_seconds")
_SHOWN = ("path", "mountpoint", "source", "fstype", "device")
_UNKNOWN = {"mountpoint": "", "source": "", "fstype": "", "device": ""}


def release(
    execute: Callable[[str], dict[str, Any]], interpreter: str, lease: str, paths: Sequence[str]
) -> dict[str, Any] | None:
    """Thaw a lease that is unbroken and of just these paths; the answer of the module, or None
    where nothing was done.

    :param execute: runs a shell command on the managed host, as root.
    :param interpreter: Python on the managed host.
    """
    message = {"op": "release", "paths": list(paths)}
    answer = _ask(execute, interpreter, lease, message, paths)
    if answer is None:
        return None
    warnings = [
        f"{each['device']} could not be thawed yet: {each['error']}; the guard (pid "
        f"{answer['lease']['guard_pid']}) goes on trying"
        for each in answer["filesystems"]
        if each["error"]
    ]
    filesystems = [
        {
            **{key: each[key] for key in _SHOWN},
            "before": "frozen",
            "state": "frozen" if each["ours"] else "thawed",
            "pause": each["pause"],
        }
        for each in answer["filesystems"]
    ]
    told = {"warnings": warnings} if warnings else {}
    return {**_proof(answer), "filesystems": filesystems, **told}


def agree(
    execute: Callable[[str], dict[str, Any]],
    interpreter: str,
    lease: str,
    at: float,
    paths: Sequence[str],
) -> dict[str, Any] | None:
    """Agree with an armed guard on a time (seconds since 1970), or learn that it has frozen all at
    that time; the answer of the module, or None where nothing was done."""
    answer = _ask(execute, interpreter, lease, {"op": "agree", "at": at}, paths)
    if answer is None:
        return None
    frozen = answer["phase"] == "held"
    shown = (*_SHOWN, *_TAKEN) if frozen else _SHOWN
    states = {"before": "thawed", "state": "frozen" if frozen else "thawed"}
    filesystems = [
        {**{key: each[key] for key in shown}, **states} for each in answer["filesystems"]
    ]
    told: dict[str, Any] = {"left_out": [], "lease": answer["lease"]}
    if not frozen:
        told["armed"] = True
    return {"changed": answer["changed"], "filesystems": filesystems, **told}


def thaw(
    execute: Callable[[str], dict[str, Any]], interpreter: str, lease: str, paths: Sequence[str]
) -> dict[str, Any] | None:
    """Thaw all of a lease, or where none is named these paths; the answer of the module as far as
    it is known, or None."""
    answer = _ask(execute, interpreter, lease, {"op": "thaw", "devices": None}, paths)
    if answer is None:
        return None
    states = {"before": "unknown", "state": "unknown", "pause": None}
    filesystems = [{"path": path, **_UNKNOWN, **states} for path in paths]
    if lease:
        return {**_proof(answer), "filesystems": filesystems}
    unproven = {"held": None, "thawed_by": None, "frozen_seconds": None, "lease": None}
    return {"changed": answer["changed"], **unproven, "filesystems": filesystems}


def _ask(
    execute: Callable[[str], dict[str, Any]],
    interpreter: str,
    lease: str,
    message: dict[str, Any],
    paths: Sequence[str],
) -> dict[str, Any] | None:
    argument = json.dumps([lease, message, list(paths)])
    command = [*shlex.split(interpreter), "-I", "-S", "-B", "-c", _SCRIPT, argument]
    # The shell may have something to say as well, whoever logs in.
    said = [
        line for line in execute(shlex.join(command))["stdout"].splitlines() if line.startswith("{")
    ]
    try:
        answer = json.loads(said[-1]) if said else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and answer.get("ok") else None


def _proof(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "changed": answer["changed"],
        "held": answer["held"],
        "thawed_by": answer["thawed_by"] or "request",
        "frozen_seconds": answer["frozen_seconds"],
        "lease": answer["lease"],
    }
