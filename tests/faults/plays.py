# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real plays, from ansible-playbook processes that can be watched, interrupted and killed."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.hosts.ansible import environment
from tests.kernel.processes import kill_together, wait_for

# A play does its work on a machine that may be busy.
_SECONDS = 240.0
_numbers = itertools.count(1)


@functools.cache
def _built() -> tempfile.TemporaryDirectory[str]:
    """Return the folder of what plays have built for hosts, which goes with this process."""
    return tempfile.TemporaryDirectory(prefix="quiesce-built-")


class Play:
    """A running ansible-playbook; :func:`playing` starts one.

    Its events are dictionaries with ``event`` (``start``, ``ok``, ``failed``, ``unreachable``),
    ``host``, ``task`` (the name of the task), ``at`` (monotonic seconds) and ``result``.
    """

    def __init__(self, folder: Path, argv: Sequence[str], settings: Mapping[str, str]) -> None:
        self._events = folder / "events"
        self._read = 0
        self._so_far: list[dict[str, Any]] = []
        self._output = folder / "output"
        self._started = time.monotonic()
        with self._output.open("wb") as output:
            # A session of its own, as a terminal gives one: so Ctrl-C reaches all that it started.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ansible", "playbook", *argv],
                env={
                    **environment(folder),
                    # As Ansible has it; not shared, for another host may have had the address.
                    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
                    "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/quiesce-{os.getpid()}/{next(_numbers)}",
                    "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callback")),
                    "ANSIBLE_CALLBACKS_ENABLED": "events",
                    "QUIESCE_EVENTS": str(self._events),
                    "QUIESCE_BUILT": _built().name,
                    **settings,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """All of its output so far, in one line."""
        return " ".join(self._output.read_text(errors="replace").split())

    @property
    def seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._started

    def events(self, event: str, task: str, host: str | None = None) -> list[dict[str, Any]]:
        """Return the events so far of this kind, of the task whose name ends in ``task``."""
        if self._events.exists() and self._events.stat().st_size > self._read:
            self._read_on()
        return [
            each
            for each in self._so_far
            if each["event"] == event
            and each["task"].endswith(task)
            and host in (None, each["host"])
        ]

    def _read_on(self) -> None:
        """Read what has come since the last time; a test looks hundreds of times a second."""
        with self._events.open("rb") as stream:
            stream.seek(self._read)
            # The last line may be only half-written yet.
            whole, end, _half = stream.read().rpartition(b"\n")
        self._read += len(whole + end)
        self._so_far += map(json.loads, whole.splitlines())

    def wait(self, event: str, task: str, host: str | None = None) -> dict[str, Any]:
        """Wait for such an event; AssertionError if it did not come before the end of the play."""
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            ended = self.process.poll() is not None
            found[:] = self.events(event, task, host)
            assert found or not ended, f"no {event} of {task!r}: {self.said}"
            return bool(found)

        wait_for(seen, _SECONDS)
        return found[0]

    def finish(self, seconds: float = _SECONDS) -> int:
        """Wait for its end and return its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the play does not end: {self.said}") from None

    def kill(self) -> None:
        """Kill the controller, with all that it started here, at once."""
        kill_together(self.processes())
        self.process.wait()

    def processes(self) -> list[int]:
        """All that it started here: workers have sessions of their own, and may outlive it."""
        mark = f"QUIESCE_EVENTS={self._events}".encode()
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError):
                environment = Path("/proc", name, "environ").read_bytes()
                if mark in environment.split(b"\0"):
                    found.append(int(name))
        return found

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)


def freeze_stay_thaw(waiting: str, **options: Any) -> dict[str, Any]:
    """Return a block of ``Freeze``, ``Be frozen`` and ``Thaw``, whatever came before that.

    :param waiting: a shell command; it is frozen until that ends.
    :param options: of the freeze; ``path`` and ``lease`` are those of the thaw, too.
    """
    thaw = {"path": options["path"], "state": "thawed", "lease": options["lease"]}
    # In the controller, and without a module: nothing else must happen on the host.
    stay = {"msg": f"{{{{ lookup('ansible.builtin.pipe', {waiting!r}) }}}}"}
    block = [
        {"name": "Freeze", "quiesce.storage.fsfreeze": {"state": "frozen", **options}},
        {"name": "Be frozen", "ansible.builtin.debug": stay},
    ]
    return {"block": block, "always": [{"name": "Thaw", "quiesce.storage.fsfreeze": thaw}]}


@contextmanager
def running(folder: Path, argv: Sequence[str], settings: Mapping[str, str]) -> Iterator[Play]:
    """Run ansible-playbook; what is left of it is killed at the end of the block.

    :param folder: for the files of this run; it is there.
    """
    play = Play(folder, argv, settings)
    try:
        yield play
    finally:
        play.kill()


@contextmanager
def playing(
    folder: Path,
    hosts: Mapping[str, Mapping[str, Any]],
    plays: Sequence[Mapping[str, Any]],
    *arguments: str,
    **settings: str,
) -> Iterator[Play]:
    """Run these plays on these hosts; what is left of them is killed at the end of the block.

    :param folder: for the files of this run; made.
    :param hosts: the variables of each.
    :param arguments: more arguments for ansible-playbook.
    :param settings: environment variables.
    """
    folder.mkdir()
    inventory, playbook = folder / "inventory.json", folder / "playbook.yml"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    playbook.write_text(json.dumps([{"gather_facts": False, **each} for each in plays]))
    argv = ["-i", str(inventory), str(playbook), *arguments]
    with running(folder, argv, settings) as play:
        yield play
