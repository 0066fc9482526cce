# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet that outlives the command which started it.

A process of its own, the keeper, holds the lab and the hosts. In the fleet's folder there are
``lock``, which it holds and which has its pid, ``inventory.json`` once all hosts are up, and
``log``: what went wrong, and how long which filesystem was frozen, as the kernel says.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.kernel.lab import GIB, MIB, Lab, LabError, open_lab, remove_crashed_labs, run

from .fleet import PYTHONS, Plan, open_fleet, plans
from .host import Host

INVENTORY = "inventory.json"
_LABS = Path("/var/tmp")
_LAB_SIZE = 16 * GIB
_HOST_SIZE = 256 * MIB
# A host that answers late on a busy machine is not lost.
_PATIENT_SECONDS = 120
_PATIENT = f"-o ServerAliveInterval=15 -o ServerAliveCountMax={_PATIENT_SECONDS // 15}"
# Where a host is cut off on purpose, that has to be noticed before a deadline.
_IMPATIENT = "-o ServerAliveInterval=3 -o ServerAliveCountMax=3"
_BUILD_SECONDS = 1800.0
_STOP_SECONDS = 600.0
_LOOK_SECONDS = 0.1


def start(folder: Path, number: int, thaw_after: float) -> None:
    """Start a fleet of ``number`` hosts and return when all of them answer.

    :param thaw_after: seconds after which the keeper thaws what is frozen, whoever froze it.
    :raises LabError: there is a fleet in that folder, or it did not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"{folder}: a fleet is running; stop it first") from error
        lock.truncate(0)
        (folder / INVENTORY).unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tests.hosts", "keep", "--folder", str(folder)]
        argv += ["--number", str(number), "--thaw-after", str(thaw_after)]
        argv += ["--lock", str(lock.fileno())]
        with (folder / "log").open("wb") as log:
            keeper = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
        deadline = time.monotonic() + _BUILD_SECONDS
        try:
            while not (folder / INVENTORY).exists():
                if keeper.poll() is not None or time.monotonic() > deadline:
                    raise LabError(f"the fleet did not start: {(folder / 'log').read_text()}")
                time.sleep(0.05)
        except BaseException:
            keeper.terminate()
            keeper.wait()
            raise


def keep(folder: Path, number: int, thaw_after: float, lock: int) -> None:
    """Be the keeper: hold a fleet until SIGTERM comes or its folder is gone.

    :param lock: the descriptor of the lock, which is held already.
    :raises LabError: a host did not come up, or could not be taken down.
    """

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # once is enough: what follows must not be cut short
        raise SystemExit

    os.set_inheritable(lock, False)
    signal.signal(signal.SIGTERM, end)
    os.write(lock, b"%d" % os.getpid())
    planned = plans(number)
    with (
        open_lab(_LABS, max(_LAB_SIZE, number * _HOST_SIZE)) as lab,
        open_fleet(lab, planned) as hosts,
        _ssh_connections(lab) as connections,
    ):
        draft = folder / "inventory.new"
        draft.write_text(json.dumps(_inventory(planned, hosts, connections), indent=1))
        draft.rename(folder / INVENTORY)
        _watch(hosts, thaw_after, lock)


def stop(folder: Path) -> None:
    """Take the fleet down, whatever is left of it; no error if there is none.

    :raises LabError: something could not be taken down.
    """
    _end_keeper(folder)
    # What a keeper that was killed has left; its lab cannot be told from others that crashed. An
    # attempt is given up after some seconds, which is too soon for many hosts on a busy machine.
    deadline = time.monotonic() + _STOP_SECONDS
    while True:
        try:
            remove_crashed_labs(_LABS)
            break
        except LabError:
            if time.monotonic() > deadline:
                raise
    shutil.rmtree(folder, ignore_errors=True)


def members(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the inventory says of each host, by name.

    :raises LabError: no fleet is running there.
    """
    try:
        text = (folder / INVENTORY).read_text()
    except FileNotFoundError as error:
        raise LabError(f"{folder}: no fleet is running there") from error
    hosts: dict[str, dict[str, Any]] = json.loads(text)["fleet"]["hosts"]
    return hosts


def _end_keeper(folder: Path) -> None:
    try:
        lock = (folder / "lock").open()
    except FileNotFoundError:
        return
    number = signal.SIGTERM
    deadline = time.monotonic() + _STOP_SECONDS
    told = 0
    with lock:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            lock.seek(0)
            keeper = int(lock.read() or 0)
            if time.monotonic() > deadline and number == signal.SIGTERM:
                number, told = signal.SIGKILL, 0
            if keeper and keeper != told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(keeper, number)
                told = keeper
            time.sleep(0.05)


def _inventory(planned: list[Plan], hosts: list[Host], connections: Path) -> dict[str, Any]:
    """The fleet as Ansible's inventory: a group of all, and one for each Debian release."""
    releases: dict[str, Any] = {suite: {"hosts": {}} for suite in PYTHONS}
    everything: dict[str, Any] = {}
    for plan, host in zip(planned, hosts, strict=True):
        variables = host.variables(
            ansible_control_path_dir=str(connections),
            fleet_init=host.init,
            fleet_paths=list(host.paths),
            fleet_images={path: str(image) for path, image in host.images().items()},
            fleet_python=PYTHONS[plan.suite],
        )
        always = variables["ansible_ssh_common_args"]
        patient = {"timeout": _PATIENT_SECONDS, "ssh": f"{always} {_PATIENT}"}
        variables["fleet_patient"] = patient
        variables["fleet_impatient"] = {"timeout": 10, "ssh": f"{always} {_IMPATIENT}"}
        variables["ansible_timeout"] = patient["timeout"]
        variables["ansible_ssh_common_args"] = patient["ssh"]
        everything[host.name] = variables
        releases[plan.suite]["hosts"][host.name] = {}
    return {"fleet": {"hosts": everything}, **releases}


@contextlib.contextmanager
def _ssh_connections(lab: Lab) -> Iterator[Path]:
    """The folder of ssh's shared connections, which are ended at the end of the block."""
    folder = lab.folder / "ssh"
    try:
        yield folder
    finally:
        for path in folder.glob("*"):
            run("ssh", "-o", f"ControlPath={path}", "-O", "exit", "host", check=False)


def _watch(hosts: Sequence[Host], thaw_after: float, lock: int) -> None:
    """Note each freeze, and end one that lasts too long, until the fleet's folder is gone."""
    since: dict[tuple[Host, str], float] = {}
    while os.fstat(lock).st_nlink:
        now = time.monotonic()
        frozen = {(host, path) for host in hosts for path in host.frozen()}
        for host, path in since.keys() - frozen:
            _say(f"{host} {path} was frozen for {now - since.pop((host, path)):.1f} s")
        for host, path in frozen:
            if now - since.setdefault((host, path), now) > thaw_after:
                _say(f"{host} {path} is thawed by the keeper")
                host.thaw()
        time.sleep(_LOOK_SECONDS)


def _say(sentence: str) -> None:
    print(sentence, flush=True)
