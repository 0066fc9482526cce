# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU guest agent of the distribution, where it sees one filesystem and nothing else.

It runs in a mount namespace of its own, whose root is a tmpfs with the agent and its libraries:
``guest-fsfreeze-freeze`` would freeze everything that the agent finds mounted, and even that would
be this filesystem alone.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kernel.lab import Filesystem, LabError, run
from tests.kernel.lab.loops import mounts
from tests.kernel.processes import children

PROGRAM = "qemu-ga"
_SECONDS = 60.0
# In namespaces of its own: makes a root of ROOT, with the filesystem at the path that it has.
_START = """
set -eu
root=$1 mountpoint=$2
mount -t tmpfs -o mode=755 tmpfs "$root"
cp -a "$root.files/." "$root"
mkdir -p "$root/proc" "$root/old" "$root$mountpoint"
mount --bind "$mountpoint" "$root$mountpoint"
mount -t proc proc "$root/proc"
cd "$root"
pivot_root . old
cd /
exec /agent/start /old
"""
_LIBRARY = re.compile(r"(/\S+)")


class GuestAgent:
    """A running agent; :func:`guest_agent` starts one."""

    def __init__(self, pid: int, mountpoint: Path) -> None:
        self._pid = pid
        self._mountpoint = mountpoint
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SECONDS)
        self._socket.connect(f"/proc/{pid}/root/agent/socket")
        self._stream = self._socket.makefile("rb")
        self.ask("guest-ping")

    def freeze(self) -> None:
        """Freeze the filesystem; LabError if it is not frozen then."""
        seen = {each.mountpoint for each in mounts(Path(f"/proc/{self._pid}")) if _on_disk(each)}
        if seen != {str(self._mountpoint)}:
            raise LabError(f"the agent sees more than it may freeze: {seen}")
        frozen = self.ask("guest-fsfreeze-freeze-list", mountpoints=[str(self._mountpoint)])
        if frozen != 1:
            raise LabError(f"the agent froze {frozen} filesystems")

    def thaw(self) -> None:
        """Thaw it; LabError if it was not frozen."""
        if self.ask("guest-fsfreeze-thaw") != 1:
            raise LabError("the agent had nothing to thaw")

    def ask(self, command: str, **arguments: Any) -> Any:
        """Give a command and return what comes back; LabError if it is refused."""
        message = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        answer = json.loads(self._stream.readline())
        if "error" in answer:
            raise LabError(f"{command}: {answer['error']}")
        return answer["return"]

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()


@contextmanager
def guest_agent(filesystem: Filesystem) -> Iterator[GuestAgent]:
    """Run the agent for one filesystem until the end of the block.

    :raises LabError: it did not begin.
    """
    root = filesystem.folder / "agent"
    files = filesystem.folder / "agent.files"
    root.mkdir()
    _gather(files)
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    argv += ["sh", "-c", _START, "sh", str(root), str(filesystem.mountpoint)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        agent = GuestAgent(_listening(process), filesystem.mountpoint)
        try:
            yield agent
        finally:
            agent.close()
    finally:
        filesystem.thaw()
        process.kill()
        process.wait()
        shutil.rmtree(files)
        root.rmdir()


def _on_disk(mount: Any) -> bool:
    return not mount.number.startswith("0:")


def _gather(files: Path) -> None:
    """The agent, what it and a shell need to begin, and the script that begins."""
    programs = [shutil.which(name) for name in (PROGRAM, "sh", "umount")]
    needed = {str(program) for program in programs}
    for program in programs:
        needed.update(_LIBRARY.findall(run("ldd", str(program)).stdout))
    for name in needed:
        target = files / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, target)
    start = files / "agent/start"
    start.parent.mkdir(parents=True)
    umount, agent = programs[2], programs[0]
    start.write_text(
        f"#!{programs[1]}\n{umount} -l $1\nexec {agent} -m unix-listen -p /agent/socket -t /agent\n"
    )
    start.chmod(0o755)


def _listening(process: subprocess.Popen[bytes]) -> int:
    """The pid of the agent, once it listens."""
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for pid in children(process.pid):
            if Path(f"/proc/{pid}/root/agent/socket").exists():
                return pid
        time.sleep(0.02)
    raise LabError("the QEMU guest agent did not begin")


__all__ = ["PROGRAM", "GuestAgent", "guest_agent"]
