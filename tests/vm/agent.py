# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a virtual machine, in memory: commands, and the kernel's word on what is frozen.

It arrives over ssh and is started before anything is frozen, reads one request a line and
answers each in a thread of its own, so that a command that is blocked holds up nothing else.
``BUNDLE``, a zip file in base64, is put before this text: the project's own reader of superblocks.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import Any

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
_MEMORY = "/dev/shm"
_ENVIRONMENT = {
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TMPDIR": _MEMORY,
}
# The agent is spared by the OOM killer; what it runs is not.
_AS_OTHERS = ["sh", "-c", 'echo 0 >/proc/self/oom_score_adj; exec "$@"', "sh"]
_MCL_CURRENT_AND_FUTURE = 3


def mountpoints() -> list[str]:
    """Where filesystems with a block device behind them are mounted."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        for line in stream:
            fields, _separator, source = line.partition(" - ")
            if source.split()[1].startswith("/dev/"):
                name = fields.split()[4]
                found.append(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), name))
    return found


class Agent:
    """Answers requests: each method that has no underscore is one."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._frozen: dict[str, int] = {}
        self._timers: list[threading.Timer] = []
        self._answering = threading.Lock()

    def serve(self) -> None:
        """Answer until the connection ends; what was frozen by hand is thawed then."""
        self._say({"ready": True})
        for line in sys.stdin:
            threading.Thread(target=self._answer, args=(json.loads(line),), daemon=True).start()
        self._thaw_own()
        os._exit(0)

    def states(self) -> dict[str, str]:
        """The state of each filesystem, by the first of its mountpoints."""
        states: dict[int, tuple[str, str]] = {}
        for path in mountpoints():
            try:
                fd = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            try:
                identity = self._reader.identity(fd)
                states.setdefault(identity, (path, self._reader.state(fd)))
            finally:
                os.close(fd)
        return dict(states.values())

    def run(self, argv: list[str], seconds: float, input: str | None) -> dict[str, Any]:
        """Run a command; after so many seconds it is killed, and not waited for."""
        process = subprocess.Popen(
            [*_AS_OTHERS, *argv],
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        try:
            sent = None if input is None else input.encode()
            stdout, stderr = process.communicate(sent, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return {
            "rc": process.returncode,
            "stdout": stdout.decode(errors="replace"),
            "stderr": stderr.decode(errors="replace"),
        }

    def thawed_after(self, argv: list[str], seconds: float) -> float:
        """Run a command; the seconds from its start until nothing is frozen any more."""
        began = time.monotonic()
        if argv:
            threading.Thread(target=self.run, args=(argv, seconds, None), daemon=True).start()
        while set(self.states().values()) != {"thawed"}:
            if time.monotonic() - began > seconds:
                raise TimeoutError("not thawed: %s" % self.states())
            time.sleep(0.005)
        return time.monotonic() - began

    def freeze(self, path: str, seconds: float) -> None:
        """FIFREEZE; a thaw after so many seconds is arranged first."""
        fd = self._frozen.setdefault(path, os.open(path, os.O_RDONLY))
        timer = threading.Timer(seconds, self._thaw_own)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)
        fcntl.ioctl(fd, FIFREEZE, 0)

    def thaw(self) -> list[str]:
        """Thaw everything that is mounted, whoever froze it; the paths that were frozen."""
        thawed = self._thaw_own()
        for path in mountpoints():
            if self._thaw(os.open(path, os.O_RDONLY)):
                thawed.append(path)
        return thawed

    def _thaw_own(self) -> list[str]:
        """Thaw what was frozen by hand, and nothing later."""
        while self._timers:
            self._timers.pop().cancel()
        fds, self._frozen = self._frozen, {}
        return [path for path, fd in fds.items() if self._thaw(fd)]

    @staticmethod
    def _thaw(fd: int) -> bool:
        thawed = False
        # EINVAL also means: one holder of several is gone.
        for _attempt in range(4):
            try:
                fcntl.ioctl(fd, FITHAW, 0)
                thawed = True
            except OSError:
                continue
        os.close(fd)
        return thawed

    def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"number": request.pop("number")}
        try:
            answer["answer"] = getattr(self, request.pop("op"))(**request)
        except Exception as error:
            answer["error"] = "%s: %s" % (type(error).__name__, error)
        self._say(answer)

    def _say(self, message: dict[str, Any]) -> None:
        with self._answering:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()


def start(bundle: str) -> None:
    """Unpack the reader to memory, lock this process there, and serve."""
    path = "%s/quiesce-agent-%d.zip" % (_MEMORY, os.getpid())
    with open(path, "wb") as stream:
        stream.write(base64.b64decode(bundle))
    sys.path.insert(0, path)
    from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

    os.unlink(path)
    # The OOM killer spares it and its sshd, and nothing of it is read from a disk again.
    for pid in (os.getpid(), os.getppid()):
        with open("/proc/%d/oom_score_adj" % pid, "w", encoding="ascii") as stream:
            stream.write("-1000")
    ctypes.CDLL(None).mlockall(_MCL_CURRENT_AND_FUTURE)
    Agent(Reader()).serve()
