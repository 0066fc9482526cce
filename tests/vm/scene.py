# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault happens to: a machine whose filesystem is written to, and a play that freezes it."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.plays import Play, freeze_stay_thaw, playing
from tests.kernel.lab.load import PROGRAM
from tests.kernel.processes import wait_for

from .control import MachineError
from .machine import Machine

DATA = "/data"
PATHS = ("/", DATA)
"""What the plays freeze: the root filesystem, with the journal on it, and one of its own."""

LEASE = "fault"
TIMEOUT = 120
"""Seconds until the machine thaws by itself, where a test says nothing else."""

PLAY_SECONDS = 300.0
"""What a play may take on an emulated processor, which others may keep busy."""

SOON = 20.0
"""Seconds within which PID 1 thaws: it starts Python for that, on a processor that is shared.
Whatever systemd gives up waiting for takes it 90."""

PROMPT = 60.0
"""Seconds within which a play that asks for a thaw gets it, and ends."""

LATE = 3.0
"""Seconds by which a thaw at the deadline may be late on such a processor."""

GUARD = f"cat /sys/fs/cgroup/system.slice/quiesce-{LEASE}-*.service/cgroup.procs"
"""A command that shows all processes of the guard, and of what PID 1 runs after it."""

_LOAD = "/dev/shm/load.py"


class Scene:
    """One machine under load, and plays of the modules on it, as ``user``."""

    def __init__(self, vm: Machine, folder: Path) -> None:
        self.vm = vm
        self.user = "root"
        self.folder = folder
        self._plays = itertools.count(1)
        self._go = folder
        folder.mkdir()

    # Writers

    def write(self, folder: str = DATA) -> None:
        """Have programs write there, which is where a filesystem is mounted."""
        self._put_program()
        # What the one emulated processor has to spare: else a freeze takes four times as long.
        program = f"nice -n 19 python3 {_LOAD} run"
        options = f"--directory {folder} --progress {_progress(folder)} --fio-rate 0"
        self.vm.run("sh", "-c", f"{program} {options} >/dev/null 2>&1 &")
        self.written(folder)

    def written(self, folder: str = DATA) -> dict[str, int]:
        """How much each writer there has finished by now."""
        argv = ("python3", _LOAD, "sample", "--progress", _progress(folder), "--ready", "60")
        sample: dict[str, int] = json.loads(self.vm.run(*argv, timeout=90))
        return sample

    def nothing_lost(self, folder: str = DATA) -> None:
        """Writers there go on from here, and all that they ever wrote is there."""
        sample = self.written(folder)
        for _attempt in range(60):
            now = self.written(folder)
            if all(now[each] > sample[each] for each in sample):
                break
            self.vm.run("sleep", "0.5")
        else:
            raise AssertionError(f"writers do not go on: {sample} {now}")
        self.stop_writing(folder)
        verdict = self.lost(self.written(folder), folder)
        assert verdict["lost"] == 0, verdict

    def stop_writing(self, folder: str = DATA) -> None:
        """End the writers there, unless they have ended by themselves."""
        self.vm.run("python3", _LOAD, "stop", "--progress", _progress(folder), timeout=60)

    def writes(self, folder: str = DATA) -> bool:
        """Whether the writers there have not ended."""
        pid = f"$(od -An -tu8 -N8 {_progress(folder)} | tr -d ' ')"
        return _LOAD in self._shown(f"cat /proc/{pid}/cmdline")

    def lost(self, sample: Mapping[str, int], folder: str = DATA) -> dict[str, Any]:
        """What of ``sample`` is not there any more."""
        self._put_program()
        argv = ("verify", "--snapshot-mount", folder, "--progress", json.dumps(sample))
        verdict: dict[str, Any] = json.loads(self.vm.run("python3", _LOAD, *argv, timeout=60))
        return verdict

    def _put_program(self) -> None:
        """In memory, where a reboot takes it away."""
        self.vm.run("sh", "-c", f"cat >{_LOAD}", input=PROGRAM.read_text())

    # Plays

    @contextmanager
    def play(self, **options: Any) -> Iterator[Play]:
        """Run ``Freeze``, ``Be frozen`` until :meth:`let`, ``Thaw``; with options of the freeze."""
        options = {"path": list(PATHS), "timeout": TIMEOUT, "lease": LEASE, **options}
        folder = self.folder / f"play-{next(self._plays)}"
        self._go = folder / "go"
        waiting = f"until [ -e {self._go} ]; do sleep 0.05; done"
        with self._playing(folder, freeze_stay_thaw(waiting, **options)) as running:
            yield running

    @contextmanager
    def _playing(self, folder: Path, *tasks: Mapping[str, Any]) -> Iterator[Play]:
        hosts = {str(self.vm): self.vm.variables(self.user)}
        whole = {"hosts": "all", "tasks": tasks}
        with playing(folder, hosts, [whole], ANSIBLE_TIMEOUT="60") as running:
            yield running

    @contextmanager
    def frozen(self, **options: Any) -> Iterator[Play]:
        """The same, and wait until it is frozen, which the kernel says."""
        with self.play(**options) as running:
            self.wait(running, "start", "Be frozen")
            assert sorted(self.vm.frozen()) == sorted(options.get("path", PATHS))
            yield running

    @staticmethod
    def wait(play: Play, event: str, task: str) -> dict[str, Any]:
        """Wait for an event of a play, for as long as that may take here."""
        wait_for(lambda: play.events(event, task) or play.process.poll() is not None, PLAY_SECONDS)
        return play.wait(event, task)

    def let(self) -> None:
        """Let the play thaw."""
        self._go.touch()

    def thaw(self, play: Play) -> dict[str, Any]:
        """Let the play thaw, wait for its end, and return what the thaw says."""
        self.let()
        assert play.finish(PLAY_SECONDS) == 0
        result: dict[str, Any] = play.wait("ok", "Thaw")["result"]
        return result

    def thaw_well(self, play: Play) -> float:
        """Let the play thaw what was held without a break; return how long that took it."""
        began = time.monotonic()
        result = self.thaw(play)
        seconds = time.monotonic() - began
        assert (result["held"], result["thawed_by"]) == (True, "request")
        assert 0 < result["frozen_seconds"] < TIMEOUT
        assert self.vm.not_thawed() == {}
        assert seconds < PROMPT
        return seconds

    def thaw_anew(self, *paths: str) -> dict[str, Any]:
        """Ask for the thaw by a play of its own, over a new connection; return what it says."""
        options = {"path": paths or PATHS, "state": "thawed", "lease": LEASE}
        task = {"name": "Thaw", "quiesce.storage.fsfreeze": options}
        with self._playing(self.folder / f"play-{next(self._plays)}", task) as running:
            assert running.finish(PLAY_SECONDS) == 0
            result: dict[str, Any] = running.wait("ok", "Thaw")["result"]
            return result

    def guard(self) -> list[int]:
        """All processes of the guard, and of what PID 1 runs after it."""
        return [int(word) for word in self._shown(GUARD).split()]

    def record(self) -> dict[str, Any]:
        """What the guard has written of its lease; {} where there is no record."""
        record: dict[str, Any] = json.loads(
            self._shown(f"cat /run/quiesce/lease-{LEASE}/record") or "{}"
        )
        return record

    def _shown(self, script: str) -> str:
        """The output of a script that shows files; empty where they are not there, or go."""
        try:
            return self.vm.run("sh", "-c", script)
        except MachineError as error:
            if re.search("No such (file|device)", str(error)):
                return ""
            raise


def _progress(folder: str) -> str:
    """Where the writers of a folder note what they have finished."""
    return f"/dev/shm/progress{folder.replace('/', '-')}"
