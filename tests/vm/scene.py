# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault happens to: a machine whose filesystem is written to, and a play that freezes it."""

from __future__ import annotations

import contextlib
import itertools
import json
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
PLAY_SECONDS = 300.0
"""What a play may take on an emulated processor, which others may keep busy."""

_PROGRESS = "/dev/shm/progress"
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
        """Have programs write there."""
        self._put_program()
        # What the one emulated processor has to spare: else a freeze takes four times as long.
        program = f"nice -n 19 python3 {_LOAD} run"
        options = f"--directory {folder} --progress {_PROGRESS} --fio-rate 0"
        self.vm.run("sh", "-c", f"{program} {options} >/dev/null 2>&1 &")
        self.written()

    def written(self) -> dict[str, int]:
        """How much each writer has finished by now."""
        argv = ("python3", _LOAD, "sample", "--progress", _PROGRESS, "--ready", "60")
        sample: dict[str, int] = json.loads(self.vm.run(*argv, timeout=90))
        return sample

    def nothing_lost(self, sample: Mapping[str, int], folder: str = DATA) -> None:
        """Writers have gone on since ``sample``, and all that they wrote is there."""
        for _attempt in range(60):
            now = self.written()
            if all(now[each] > sample[each] for each in sample):
                break
            self.vm.run("sleep", "0.5")
        else:
            raise AssertionError(f"writers do not go on: {sample} {now}")
        self.vm.run("python3", _LOAD, "stop", "--progress", _PROGRESS, timeout=60)
        verdict = self.lost(self.written(), folder)
        assert verdict["lost"] == 0, verdict

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
        options = {"path": list(PATHS), "timeout": 120, "lease": LEASE, **options}
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
        play.finish(PLAY_SECONDS)
        result: dict[str, Any] = play.wait("ok", "Thaw")["result"]
        return result

    def thaw_anew(self, *paths: str) -> dict[str, Any]:
        """Ask for the thaw by a play of its own, over a new connection; return what it says."""
        options = {"path": paths or PATHS, "state": "thawed", "lease": LEASE}
        task = {"name": "Thaw", "quiesce.storage.fsfreeze": options}
        with self._playing(self.folder / f"play-{next(self._plays)}", task) as running:
            running.finish(PLAY_SECONDS)
            result: dict[str, Any] = running.wait("ok", "Thaw")["result"]
            return result

    def guard(self) -> list[int]:
        """All processes of the guard."""
        with contextlib.suppress(MachineError):
            script = f"cat /sys/fs/cgroup/system.slice/quiesce-{LEASE}-*.service/cgroup.procs"
            return [int(word) for word in self.vm.run("sh", "-c", script).split()]
        return []
