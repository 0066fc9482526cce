# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to the agent in a machine, over a link and an sshd of its own."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import subprocess
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from tests.kernel.lab import LabError

SSH_OPTIONS = {
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "LogLevel": "ERROR",
}
_AGENT = Path(__file__).with_name("agent.py")
_PLUGINS = Path(__file__).parents[2] / "plugins"
_READER = ("_superblock.py", "_bpf.py", "_btf.py")
_PACKAGE = "ansible_collections/quiesce/storage/plugins/module_utils"
_LOADER = "import sys; exec(compile(sys.stdin.read(int(sys.stdin.readline())), 'agent', 'exec'))"
# What a request may take beyond the time that it was given: the emulated processor is slow.
_GRACE = 30.0


class MachineError(LabError):
    """A machine did not start, did not answer, or answered that something failed."""


class Control:
    """A running agent."""

    def __init__(self, port: int, key: Path, seconds: float) -> None:
        """Connect and start an agent; MachineError when it does not answer in time."""
        options = {**SSH_OPTIONS, "BatchMode": "yes", "IdentitiesOnly": "yes"}
        options["ConnectTimeout"] = "10"
        options["ControlPath"] = "none"
        self._process = subprocess.Popen(
            ["ssh", "-F", "/dev/null", "-T", "-p", str(port), "-i", str(key)]
            + [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
            + ["root@127.0.0.1", f'exec python3 -B -u -c "{_LOADER}"'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._ended = False
        source = f"{_AGENT.read_text()}\n\nstart({_bundle()!r})\n"
        threading.Thread(target=self._receive, daemon=True).start()
        try:
            self._send(f"{len(source)}\n{source}")
            self._wait(0, seconds)
        except BaseException:
            self.close()
            raise

    def ask(self, op: str, patience: float = 0, **arguments: Any) -> Any:
        """Ask the agent for something that takes ``patience`` seconds at most; return its answer.

        MachineError when it fails, or when there is no answer in time.
        """
        number = next(self._numbers)
        self._send(json.dumps({"number": number, "op": op, **arguments}) + "\n")
        answer = self._wait(number, patience + _GRACE)
        if "error" in answer:
            raise MachineError(f"{op} {arguments}: {answer['error']}")
        return answer["answer"]

    def close(self) -> None:
        """End the connection."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text)
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise MachineError(f"no connection to the agent: {self._complaint()}") from error

    def _receive(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                message = json.loads(line)
                with self._changed:
                    self._answers[message.get("number", 0)] = message
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _wait(self, number: int, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        with self._changed:
            while number not in self._answers:
                if self._ended:
                    raise MachineError(f"the connection to the agent ended: {self._complaint()}")
                if not self._changed.wait(deadline - time.monotonic()):
                    raise MachineError(f"no answer from the agent within {seconds:g} s")
            return self._answers.pop(number)

    def _complaint(self) -> str:
        self._process.kill()
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            return self._process.stderr.read().strip()
        return ""


def _bundle() -> str:
    """The reader of superblocks, as a zip file in base64."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        parts = _PACKAGE.split("/")
        for count in range(1, len(parts) + 1):
            archive.writestr("/".join([*parts[:count], "__init__.py"]), "")
        for name in _READER:
            archive.write(_PLUGINS / "module_utils" / name, f"{_PACKAGE}/{name}")
    return base64.b64encode(memory.getvalue()).decode()
