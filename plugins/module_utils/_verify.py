# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proving that a snapshot is good: it is judged, mounted where nobody sees it, and read.

The reading is done by a child with mounts of its own, which dies with us. However it ends, its
mount goes with it, and the loop device with the mount.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils import _readonly
from ansible_collections.quiesce.storage.plugins.module_utils._children import fork
from ansible_collections.quiesce.storage.plugins.module_utils._clean import (
    check_btrfs_data,
    judge,
)
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._process import die_with_parent
from ansible_collections.quiesce.storage.plugins.module_utils._read import Reader

# Covered by the snapshot, in the child's namespace alone. Nothing below it is needed then.
_TARGET = "/proc"
_REAP_SECONDS = 5.0
_PIPE_BYTES = 65536


def verify(
    path: str,
    fstype: str | None = None,
    contents: bool = True,
    read_timeout: float = 0,
    search: str | None = None,
) -> dict[str, Any]:
    """Verify the snapshot at ``path``: an image file, a block device, or a subvolume's folder.

    :param fstype: the type that it has to be; None for whichever it is.
    :param contents: read every file's data, and not the folders alone.
    :param read_timeout: seconds that reading may take; 0 for as long as it takes.
    :param search: where to look for tools, as :func:`judge` does.
    :raises QuiesceError: nothing can be said: a tool, a loop device or a privilege is missing.
    """
    began = time.monotonic()
    verdict = judge(path, fstype, search=search)
    count = {"files": 0, "bytes": 0}
    if verdict.clean:
        read = _read_in_child(path, str(verdict.fstype), contents, read_timeout)
        if read.get("original"):
            check_btrfs_data(path, search, verdict)
        else:
            count = {key: read.get(key, 0) for key in count}
            good = "%(files)d files, %(bytes)d bytes." % count
            if read.get("locked"):
                good += " %d are encrypted, and were not read." % read["locked"]
            verdict.add("read", good, read["reasons"])
    else:
        verdict.add("read", "Not read, since it is not clean.", [])
    found = verdict.as_dict()
    return {
        "verified": found.pop("clean"),
        **found,
        **count,
        "seconds": round(time.monotonic() - began, 3),
    }


def _read_in_child(path: str, fstype: str, contents: bool, timeout: float) -> dict[str, Any]:
    """What the child has found: ``files``, ``bytes``, ``locked``, ``reasons``.

    Only ``original`` is in it where the kernel would not mount a copy beside the original.
    """
    ours, theirs = os.pipe()
    parent = os.getpid()
    pid = fork(lambda: _child(parent, path, fstype, contents, theirs), [theirs])
    os.close(theirs)
    try:
        said = _listen(ours, timeout)
    finally:
        os.close(ours)
        os.kill(pid, signal.SIGKILL)
        gone = _reap(pid)
    if said is None:
        reason = "Reading it took longer than read_timeout (%g s)." % timeout
        if not gone:
            reason += " The storage does not answer, and process %d still waits for it." % pid
        return {"reasons": [reason]}
    if not said:
        raise QuiesceError("%s was not read: the process that does it has ended" % path)
    found: dict[str, Any] = json.loads(said)
    if "error" in found:
        raise QuiesceError(found["error"])
    return found


def _listen(pipe: int, timeout: float) -> bytes | None:
    """All that comes through the pipe, or None if that takes longer than ``timeout`` seconds."""
    deadline = time.monotonic() + timeout if timeout > 0 else None
    said = b""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([pipe], [], [], left)[0]:
            return None
        data = os.read(pipe, _PIPE_BYTES)
        if not data:
            return said
        said += data


def _reap(pid: int) -> bool:
    """Whether the child is gone; one that sleeps in the kernel may not be, for long."""
    deadline = time.monotonic() + _REAP_SECONDS
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _child(parent: int, path: str, fstype: str, contents: bool, pipe: int) -> None:
    die_with_parent()
    if os.getppid() != parent:
        return
    try:
        found = _mount_and_read(path, fstype, contents)
    except (OSError, QuiesceError) as error:
        found = {"error": "%s was not read: %s" % (path, error)}
    # A name that is no text is told as messages quote it.
    left = json.dumps(found).encode()
    while left:
        left = left[os.write(pipe, left) :]


def _mount_and_read(path: str, fstype: str, contents: bool) -> dict[str, Any]:
    _readonly.own_namespace()
    try:
        _readonly.mount(path, fstype, _TARGET)
    except _readonly.CannotMountError as error:
        if error.number == errno.EEXIST and fstype == "btrfs":
            return {"original": True}
        return {"reasons": [error.message]}
    reader = Reader(contents)
    reader.read(_TARGET)
    return {
        "files": reader.files,
        "bytes": reader.bytes,
        "locked": reader.locked,
        "reasons": reader.reasons,
    }
