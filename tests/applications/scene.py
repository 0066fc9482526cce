# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database under load on two filesystems, and snapshots of both that are started elsewhere."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.faults.plays import Play, playing
from tests.kernel.lab import GIB, MIB, Filesystem, Lab, run

from .ledger import Snapshot
from .server import Broken, Load, Server, folder_of_user

# The variables of this machine as a managed host.
THIS_HOST = {
    "ansible_connection": "local",
    "ansible_pipelining": True,
    "ansible_python_interpreter": "/usr/bin/python3",
}
_SAY = "Say what came of it"
_PLAY_SECONDS = 300.0
_numbers = itertools.count(1)


@dataclass
class Outcome:
    """What came of a run of the role: the exit status, all output, and the role's own result."""

    status: int
    said: str
    result: dict[str, Any]


@dataclass
class Scene:
    """A server on the filesystems ``data`` (ext4) and ``log`` (XFS); made by :func:`scene`."""

    lab: Lab
    data: Filesystem
    log: Filesystem
    server: Server
    folder: Path
    # From the start of a snapshot's server until it answered, in seconds.
    recoveries: list[float] = field(default_factory=list)

    @contextmanager
    def playing(self, name: str, *arguments: str, **variables: Any) -> Iterator[Play]:
        """Run the role with the provider reflink on both filesystems for the length of the block.

        :param name: of the snapshot.
        :param arguments: of ansible-playbook.
        :param variables: of the role, without their prefix; None leaves one out.
        """
        chosen = {
            "paths": [str(self.data), str(self.log)],
            "provider": "reflink",
            "name": name,
            "timeout": 30,
            "records": str(self.folder / "records"),
            "before": self.server.application,
            "after": self.server.application,
            f"{self.server.application}_client": self.server.client,
        }
        given = {
            f"consistent_snapshot_{key}": each for key, each in {**chosen, **variables}.items()
        }
        say = {"var": "consistent_snapshot_result"}
        take = {
            "block": [
                {"ansible.builtin.include_role": {"name": "quiesce.storage.consistent_snapshot"}}
            ],
            "always": [{"name": _SAY, "ansible.builtin.debug": say}],
            "vars": {key: value for key, value in given.items() if value is not None},
        }
        play = {"hosts": "localhost", "tasks": [take]}
        folder = self.folder / f"play-{next(_numbers)}"
        with playing(folder, {"localhost": THIS_HOST}, [play], *arguments) as started:
            yield started

    def role(self, name: str, *arguments: str, **variables: Any) -> Outcome:
        """Run it to its end; the arguments are those of :meth:`playing`."""
        with self.playing(name, *arguments, **variables) as play:
            status = play.finish(_PLAY_SECONDS)
            said = play.events("ok", _SAY)
            result = said[-1]["result"]["consistent_snapshot_result"] if said else {}
            return Outcome(status, play.said, result)

    @contextmanager
    def started(self, data: Path, log: Path) -> Iterator[Server]:
        """Start a server on clones of two snapshots; Broken if it does not come up.

        The snapshots stay as they are.
        """
        with (
            self.lab.mounted(data, self.data.fstype) as on_data,
            self.lab.mounted(log, self.log.fstype) as on_log,
        ):
            copy = self.server.at(on_data, on_log, folder_of_user(self._folder("copy")))
            copy.adopt()
            began = time.monotonic()
            with copy.running():
                self.recoveries.append(time.monotonic() - began)
                yield copy

    def check(self, result: Mapping[str, Any]) -> Snapshot:
        """Start a snapshot that the role took, have it checked, and remove it.

        :param result: of the role.
        :raises Broken: it does not start, or is not whole.
        """
        images = [Path(each["snapshot"]) for each in result["snapshots"]]
        with self.started(*images) as copy:
            copy.check()
            found = copy.found()
        for image in images:
            image.unlink()
        frozen_at = moment(result["snapshots"][0]["created"])
        return Snapshot(frozen_at, frozen_at + result["frozen_seconds"], found)

    def _folder(self, what: str) -> Path:
        return self.lab.folder / f"{self.server.application}-{what}-{next(_numbers)}"


def moment(iso: str) -> float:
    """Seconds since the epoch of a time that a module has told."""
    return datetime.fromisoformat(iso).timestamp()


def snapshots_under_load(on: Scene, numbers: range) -> list[str]:
    """Take that many snapshots under load; return what is wrong with them, a sentence each.

    Each is started, recovers and is checked right after it was taken.
    """
    faults, taken = [], []
    with loaded(on) as load:
        for number in numbers:
            outcome = on.role(f"n{number}")
            assert outcome.status == 0, outcome.said
            assert outcome.result["held"] is True
            assert outcome.result["trusted"] is True
            try:
                taken.append(on.check(outcome.result))
            except Broken as error:
                faults.append(f"snapshot {number}: {error}")
            load.check()
            print(f"{len(taken)} of {number + 1} recovered; the last in {on.recoveries[-1]:.1f} s")
        load.end()
        ledger = load.ledger()
    before = 0
    for number, snapshot in enumerate(taken):
        # A load that stood still would have lost nothing.
        acknowledged = ledger.acknowledged(snapshot.frozen_at)
        assert acknowledged > before
        before = acknowledged
        print(f"snapshot {number}: {acknowledged} transactions acknowledged before the freeze")
        faults.extend(f"snapshot {number}: {fault}" for fault in ledger.faults(snapshot))
    return faults


@contextmanager
def scene(lab: Lab, kind: type[Server], folder: Path, **options: Any) -> Iterator[Scene]:
    """Make the filesystems, a cluster on them, and run it for the length of the block.

    :param folder: for the files of plays; it is there.
    :param options: more for the server.
    """
    # Its user has to get through; nothing in it is a secret.
    lab.folder.chmod(0o711)
    with lab.filesystem("ext4", GIB) as data, lab.filesystem("xfs", 512 * MIB) as log:
        for each in (data, log):
            folder_of_user(each.mountpoint)
        own = lab.folder / f"{kind.application}-{next(_numbers)}"
        server = kind(data.mountpoint, log.mountpoint, folder_of_user(own), **options)
        server.create()
        # Its settings are no part of what it keeps safe by itself.
        for each in (data, log):
            run("sync", "--file-system", each.mountpoint)
        with server.running():
            try:
                yield Scene(lab, data, log, server, folder)
            finally:  # a server that waits for a frozen filesystem does not end
                for each in (data, log):
                    each.thaw()


@contextmanager
def loaded(on: Scene) -> Iterator[Load]:
    """Keep the server of a scene busy for the length of the block, or until the load is ended."""
    load = on.server.load()
    try:
        time.sleep(2)
        load.check()
        yield load
    finally:
        load.end()
