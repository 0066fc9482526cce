# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that run while a set is frozen, and end when the freeze does."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import selectors
import shutil
import signal
import subprocess
from datetime import datetime
from typing import Any, Mapping, NamedTuple

from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._freeze import Freeze, Wish
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import Conversation

_PR_SET_PDEATHSIG = 1
# Where system commands live, as AnsibleModule.get_bin_path adds them.
_SYSTEM_PATH = ("/sbin", "/usr/sbin", "/usr/local/sbin")
# What a command's own children may still say after it has ended.
_DRAIN_SECONDS = 0.1
_KILLED_SECONDS = 2.0
_libc = ctypes.CDLL(None)


class Commands(NamedTuple):
    """What to run, as the options of the module."""

    argvs: list[list[str]]
    chdir: str | None
    environment: Mapping[str, str]
    creates: str | None
    removes: str | None

    def needless(self) -> str | None:
        """Why there is nothing to run (``creates``, ``removes``), or None."""
        if self.creates and self._exists(self.creates):
            return "skipped, since %s exists" % self.creates
        if self.removes and not self._exists(self.removes):
            return "skipped, since %s does not exist" % self.removes
        return None

    def _exists(self, pattern: str) -> bool:
        try:
            return bool(glob.glob(os.path.join(self.chdir or "/", pattern)))
        except ValueError as error:
            raise QuiesceError("%s is not a path: %s" % (shown(pattern), error)) from error

    def prepared(self) -> list[list[str]]:
        """The commands with their programs found, so that nothing is searched for while frozen.

        ``QuiesceError``: an empty command, a program or a folder that is not there.
        """
        if not self.argvs:
            raise QuiesceError("commands is empty; name at least one command, as a list of words")
        if self.chdir and not os.path.isdir(self.chdir):
            raise QuiesceError("chdir: %s is not a folder; nothing was frozen" % self.chdir)
        search = self.environment.get("PATH") or os.environ.get("PATH") or os.defpath
        search = os.pathsep.join([search, *_SYSTEM_PATH])
        found = []
        for argv in self.argvs:
            if not argv or not argv[0]:
                raise QuiesceError("a command is empty; each is a list of words, the program first")
            program = argv[0]
            if "/" in program:
                program = os.path.join(os.getcwd(), self.chdir or "/", program)
            program = shutil.which(program, path=search) or ""
            if not program:
                raise QuiesceError(
                    "the command %r is not there, or not executable; nothing was frozen" % argv[0]
                )
            found.append([program, *argv[1:]])
        return found


class Run:
    """One freeze with commands in the middle."""

    def __init__(self, wish: Wish, commands: Commands) -> None:
        """Look at everything that can be looked at before the freeze; ``QuiesceError`` as there."""
        self._commands = commands
        self._argvs = commands.prepared()
        self.freeze = Freeze(wish)
        self.results: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Freeze, run, thaw; ``QuiesceError`` with all that is known when any of it failed."""
        self._refuse_frozen()
        answer, conversation = self.freeze.freeze()
        if conversation is None:
            raise QuiesceError(self._not_run(), **answer)
        try:
            failure = self._run_all(conversation)
        finally:
            proof = conversation.request({"op": "thaw", "devices": None})
            conversation.close()
        answer.update(self._proof(proof))
        self.freeze.look()
        answer["filesystems"] = [each.facts() for each in self.freeze.set]
        answer["results"] = self.results
        if failure:
            raise QuiesceError(failure, **answer)
        if not answer["held"]:
            raise QuiesceError(
                "the commands ran, but the freeze was not held (thawed by: %s): do not trust the "
                "snapshot" % answer["thawed_by"],
                **answer,
            )
        return answer

    def predict(self) -> dict[str, Any]:
        """Check mode."""
        self._refuse_frozen()
        return {**self.freeze.predict(), "results": [], "held": None, "frozen_seconds": None}

    def _refuse_frozen(self) -> None:
        settled = self.freeze.settled()
        if settled is not None:
            raise QuiesceError(self._not_run(), **settled)

    def _not_run(self) -> str:
        why = self.freeze.warnings or ["the set is frozen already, by the lease that was named"]
        return "the commands were not run: %s" % "; ".join(why)

    @staticmethod
    def _proof(proof: dict[str, Any] | None) -> dict[str, Any]:
        if proof is None:
            return {"held": False, "thawed_by": "guard_lost", "frozen_seconds": None}
        return {key: proof[key] for key in ("held", "thawed_by", "frozen_seconds")}

    def _run_all(self, conversation: Conversation) -> str | None:
        """Why the snapshot failed, or None."""
        for argv in self._argvs:
            try:
                ended, result = self._run_one(argv, conversation)
            except (OSError, ValueError) as error:
                # A missing interpreter, a format not known, too many words, a zero byte.
                return "%r could not be run: %s" % (argv[0], error)
            self.results.append(result)
            if ended:
                return "%r was ended: %s" % (argv[0], ended)
            if result["rc"] != 0:
                return "%r failed with rc %d; see results" % (argv[0], result["rc"])
        return None

    def _run_one(
        self, argv: list[str], conversation: Conversation
    ) -> tuple[str | None, dict[str, Any]]:
        began, since = datetime.now(), now()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._commands.chdir or "/",
            env={**os.environ, **self._commands.environment},
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        ended, output = _attend(process, conversation)
        delta = now() - since
        return ended, {
            "argv": argv,
            "rc": process.returncode,
            "stdout": output[0].decode("utf-8", "replace"),
            "stderr": output[1].decode("utf-8", "replace"),
            "start": str(began),
            "end": str(datetime.now()),
            "delta": "%d:%02d:%09.6f" % (delta // 3600, delta % 3600 // 60, delta % 60),
        }


def _attend(
    process: subprocess.Popen[bytes], conversation: Conversation
) -> tuple[str | None, list[bytes]]:
    """Read what a command says until it ends; end it when the freeze does."""
    ended, stop = None, None
    output = [b"", b""]
    with selectors.DefaultSelector() as selector:
        for index, stream in enumerate((process.stdout, process.stderr)):
            selector.register(stream, selectors.EVENT_READ, index)  # type: ignore[arg-type]
        selector.register(conversation.fileno(), selectors.EVENT_READ, None)
        while True:
            for key, _events in selector.select(0.02 if stop is None else 0.0):
                if key.data is None:
                    selector.unregister(key.fileobj)
                    ended = _why_over(conversation)
                    if ended is None:
                        selector.register(conversation.fileno(), selectors.EVENT_READ, None)
                    else:
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGKILL)
                    continue
                piece = os.read(key.fd, 65536)
                output[key.data] += piece
                if not piece:
                    selector.unregister(key.fileobj)
            if process.poll() is not None and stop is None:
                stop = now() + _DRAIN_SECONDS
            quiet = not [key for key in selector.get_map().values() if key.data is not None]
            if stop is not None and (quiet or now() > stop):
                break
            if quiet and stop is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()
    return ended, output


def _why_over(conversation: Conversation) -> str | None:
    event = conversation.receive(_KILLED_SECONDS)
    if event is None:
        return "the guard was lost, and its second process has thawed the set"
    if event.get("event") == "ended":
        if event["thawed_by"] == "deadline":
            return "the deadline (timeout) came before it was done, and the set was thawed"
        return "the set was thawed (by: %s) before it was done" % event["thawed_by"]
    return None


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
