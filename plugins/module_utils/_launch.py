# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a guard, so that it outlives whoever started it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import zipfile

from ansible_collections.quiesce.storage.plugins.module_utils import _after, _guard_main, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError

# A guard is there within half a second (measured), and on a host that is starved it is not.
_ARRIVAL_SECONDS = 20.0
_SYSTEMD = "/run/systemd/system"
_PACKAGE = _guard_main.__name__.rpartition(".")[0]
_ENTRY = """import sys
from %s import %s, %s
(%s.main if sys.argv[1] == "guard" else %s.main)(sys.argv[2])
"""


def start(name: str, patience: float) -> socket.socket:
    """Start a guard for the lease ``name``; the connection on which it waits for its set.

    :param patience: seconds that it may take to come, where that is more than is usual.
    """
    _lease.prepare_run()
    _lease.forget_old()
    with contextlib.ExitStack() as stack:
        path = os.path.join(_lease.RUN, "r-" + os.urandom(8).hex())
        server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            server.bind(path)
            stack.callback(_remove, path)
            server.listen(1)
            server.settimeout(max(_ARRIVAL_SECONDS, patience))
            _launch(name, path)
            connection, _address = server.accept()
        except OSError as error:
            raise QuiesceError(
                "the guard could not be started (%s); nothing was frozen. Look at %s: is it full, "
                "or read-only?" % (error.strerror or error, _lease.RUN)
            ) from error
    connection.settimeout(None)
    return connection


def _remove(path: str) -> None:
    """Remove what only this call needed; where /run has become read-only, it stays."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _launch(name: str, rendezvous: str) -> None:
    command = [sys.executable, "-I", "-S", "-B", _bundle()]
    if os.path.isdir(_SYSTEMD) and _transient_unit(name, command, rendezvous):
        return
    subprocess.Popen(
        [*command, "guard", rendezvous, name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def _transient_unit(name: str, command: list[str], rendezvous: str) -> bool:
    """Start the guard as a unit of systemd, which thaws when all of its processes are killed."""
    program = shutil.which("systemd-run")
    if not program:
        return False
    unit = "quiesce-%s-%s" % (name, os.urandom(4).hex())
    properties = [
        "Description=Guard of the freeze %s" % name,
        # What the kill of the guard must not wait for: children that sleep on a frozen
        # filesystem, and the thaw itself, which may have to wait for slow storage.
        "KillMode=process",
        "TimeoutStopSec=infinity",
        # A journal that is stuck on a frozen filesystem must not hold anything up.
        "StandardOutput=null",
        "StandardError=null",
        "OOMScoreAdjust=-1000",
        "ExecStopPost=" + " ".join(_quoted(word) for word in [*command, "after", name]),
    ]
    options = [word for each in properties for word in ("--property", each)]
    # Where systemd cannot be reached, in some containers, or does not answer, the second process
    # must do.
    try:
        done = subprocess.run(
            [program, "--quiet", "--collect", "--unit", unit, *options, "--"]
            + [*command, "guard", rendezvous, name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_ARRIVAL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _quoted(word: str) -> str:
    """A word of a command line, as systemd.service(5) reads it."""
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("$", "$$")):
        word = word.replace(special, escaped)
    return '"%s"' % word


def _bundle() -> str:
    """The guard's own copy of this package, in one file that outlives the module's."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for module_name, module in sorted(sys.modules.items()):
            if module_name.startswith(_PACKAGE + "."):
                loader = getattr(module, "__loader__", None)
                source = loader.get_source(module_name) if loader else None
                if source:
                    _put(archive, module_name.replace(".", "/") + ".py", source)
        parts = _PACKAGE.split(".")
        for count in range(1, len(parts) + 1):
            _put(archive, "/".join(parts[:count]) + "/__init__.py", "")
        short = [module.__name__.rpartition(".")[2] for module in (_guard_main, _after)]
        _put(archive, "__main__.py", _ENTRY % (_PACKAGE, *short, *short))
    content = memory.getvalue()
    path = os.path.join(_lease.RUN, "guard-%s.pyz" % hashlib.sha256(content).hexdigest()[:16])
    if not os.path.exists(path):
        fresh = "%s.%d" % (path, os.getpid())
        with open(fresh, "wb") as stream:
            stream.write(content)
        os.rename(fresh, path)
    return path


def _put(archive: zipfile.ZipFile, name: str, text: str) -> None:
    # A fixed time stamp: the same code is the same file.
    archive.writestr(zipfile.ZipInfo(name), text)
