# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that run while a set is frozen, and end when the freeze does."""

from __future__ import annotations

import glob
import os
import selectors
import shutil
from datetime import datetime
from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._command import Command
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._freeze import Freeze, Wish
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import Conversation
from ansible_collections.quiesce.storage.plugins.module_utils._process import hurry
from ansible_collections.quiesce.storage.plugins.module_utils._unfreeze import without_guard

# Where system commands live, as AnsibleModule.get_bin_path adds them.
_SYSTEM_PATH = ("/sbin", "/usr/sbin", "/usr/local/sbin")
# What a command's own children may still say after it has ended.
_DRAIN_SECONDS = 0.1
_KILLED_SECONDS = 2.0
_POLL_SECONDS = 0.0005
# What is known where the guard was lost, and so nobody could be asked.
_LOST: dict[str, Any] = {
    "held": False,
    "thawed_by": "guard_lost",
    "frozen_seconds": None,
    "filesystems": [],
}


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
        self._failure: str | None = None
        self._proof: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        """Freeze, run, thaw; ``QuiesceError`` with all that is known when any of it failed."""
        self._refuse_frozen()
        # On a busy host the guard would freeze at once, and then wait for this process.
        hurry()
        commands = [self._start(argv) for argv in self._argvs]
        try:
            answer = self._run(commands)
        finally:
            for command in commands:
                command.close()
        if self._failure:
            raise QuiesceError(self._failure, **answer)
        if not answer["held"]:
            raise QuiesceError(
                "the commands ran, but the freeze was not held (thawed by: %s): do not trust the "
                "snapshot" % answer["thawed_by"],
                **answer,
            )
        return answer

    def _start(self, argv: list[str]) -> Command:
        """Have a process ready to become the command, so that the freeze need not wait for that."""
        environment = {**os.environ, **self._commands.environment}
        try:
            return Command(argv, self._commands.chdir or "/", environment)
        except (OSError, ValueError) as error:
            raise QuiesceError(
                "%r could not be run: %s; nothing was frozen" % (argv[0], error)
            ) from error

    def _run(self, commands: Sequence[Command]) -> dict[str, Any]:
        def run_all(conversation: Conversation) -> None:
            try:
                self._failure = self._run_all(commands, conversation)
            finally:
                self._proof = conversation.request({"op": "thaw", "devices": None})

        answer, conversation = self.freeze.freeze(run_all)
        if conversation is None:
            raise QuiesceError(self._not_run(), **answer)
        conversation.close()
        if self._proof is None and conversation.silent:
            name = answer["lease"]["name"]
            self.freeze.warnings.extend(without_guard(self.freeze.wish.paths, name))
        self.freeze.look()
        proof = self._proof or _LOST
        answer.update({key: proof[key] for key in ("held", "thawed_by", "frozen_seconds")})
        for each, told in zip(self.freeze.set, proof["filesystems"]):
            each.extra["pause"] = told["pause"]
        answer["filesystems"] = [each.facts() for each in self.freeze.set]
        answer["results"] = self.results
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

    def _run_all(self, commands: Sequence[Command], conversation: Conversation) -> str | None:
        """Why the snapshot failed, or None."""
        for command in commands:
            try:
                ended, result = _run_one(command, conversation)
            except OSError as error:
                # A missing interpreter, a format not known, too many words.
                return "%r could not be run: %s" % (command.argv[0], error)
            self.results.append(result)
            if ended:
                return "%r was ended: %s" % (command.argv[0], ended)
            if result["rc"] != 0:
                return "%r failed with rc %d; see results" % (command.argv[0], result["rc"])
        return None


def _run_one(command: Command, conversation: Conversation) -> tuple[str | None, dict[str, Any]]:
    began, since = datetime.now(), now()
    command.go()
    ended, output = _attend(command, conversation)
    delta = now() - since
    return ended, {
        "argv": command.argv,
        "rc": command.rc,
        "stdout": output[0].decode("utf-8", "replace"),
        "stderr": output[1].decode("utf-8", "replace"),
        "start": str(began),
        "end": str(datetime.now()),
        "delta": "%d:%02d:%09.6f" % (delta // 3600, delta % 3600 // 60, delta % 60),
    }


def _attend(command: Command, conversation: Conversation) -> tuple[str | None, list[bytes]]:
    """Read what a command says until it ends; end it when the freeze does."""
    ended, stop = None, None
    output = [b"", b""]
    with selectors.DefaultSelector() as selector:
        for index, stream in enumerate(command.output):
            selector.register(stream, selectors.EVENT_READ, index)
        selector.register(conversation.fileno(), selectors.EVENT_READ, None)
        quiet = False
        while True:
            for key, _events in selector.select(_POLL_SECONDS if quiet else 0.02):
                if key.data is None:
                    selector.unregister(key.fileobj)
                    ended = _why_over(conversation)
                    if ended is None:
                        selector.register(conversation.fileno(), selectors.EVENT_READ, None)
                    else:
                        command.kill()
                    continue
                piece = os.read(key.fd, 65536)
                output[key.data] += piece
                if not piece:
                    selector.unregister(key.fileobj)
            if stop is None and command.ended():
                stop = now() + _DRAIN_SECONDS
            quiet = not [key for key in selector.get_map().values() if key.data is not None]
            if stop is not None and (quiet or now() > stop):
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
