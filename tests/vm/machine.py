# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One virtual machine: its disks, its process, and the connection to it."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.kernel.lab import run
from tests.kernel.systemd_host import cache_folder

from .control import SSH_OPTIONS, Control, MachineError
from .image import machine_key, suite_of
from .qemu import DISKS, Qemu
from .state import BOOT_SECONDS, connect, saved_state

_RESTORE_SECONDS = 300.0


class Machine:
    """A running machine; :func:`open_machine` starts one.

    ``suite`` is its release of Debian, ``folder`` where its disks are, ``key`` the private key
    for root and for the unprivileged user, ``port`` where its sshd is reached on this machine.
    """

    def __init__(self, suite: str, folder: Path) -> None:
        self.suite = suite
        self.folder = folder
        self.key = machine_key()
        self.qemu = Qemu(folder)
        self._control: Control | None = None

    def __str__(self) -> str:
        return self.suite

    @property
    def port(self) -> int:
        """Where its sshd is reached, on 127.0.0.1."""
        return self.qemu.ports["ansible"]

    def variables(self, user: str = "root", **others: Any) -> dict[str, Any]:
        """What an inventory has to say of it; ``user`` is root, or USER, who may use sudo."""
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": user,
            "ansible_become": user != "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": " ".join(f"-o {k}={v}" for k, v in SSH_OPTIONS.items()),
            "ansible_python_interpreter": "/usr/bin/python3",
            **others,
        }

    # In the machine, as root, over a connection that was there before anything was frozen

    def run(self, *argv: str, timeout: float = 30, input: str | None = None) -> str:
        """Run a command and return its output; MachineError if it fails or takes too long."""
        done = self._ask("run", timeout, argv=argv, seconds=timeout, input=input)
        if done["rc"] != 0:
            said = (done["stderr"] or done["stdout"]).strip()
            raise MachineError(f"{self}: {' '.join(argv)}: rc {done['rc']}: {said}")
        return str(done["stdout"])

    def states(self) -> dict[str, str]:
        """The kernel's state of each filesystem, by mountpoint: thawed, freezing, frozen."""
        return dict(self._ask("states"))

    def frozen(self) -> list[str]:
        """The mountpoints of what is frozen, as the kernel says."""
        return [path for path, state in self.states().items() if state == "frozen"]

    def not_thawed(self) -> dict[str, str]:
        """What is frozen, or still being frozen, by mountpoint, as the kernel says."""
        return {path: state for path, state in self.states().items() if state != "thawed"}

    def freeze(self, path: str, seconds: float = 30) -> None:
        """Freeze by hand; thawed after ``seconds`` at most, or when the connection ends."""
        self._ask("freeze", 60, path=path, seconds=seconds)

    def thaw(self) -> list[str]:
        """Thaw everything by hand, whoever froze it; return what was frozen."""
        return list(self._ask("thaw"))

    def thawed_after(self, *argv: str, seconds: float) -> float:
        """Run a command; the seconds from its start, on the machine, until nothing is frozen.

        Without a command: from now on. MachineError when it takes longer than ``seconds``.
        """
        return float(self._ask("thawed_after", seconds, argv=argv, seconds=seconds))

    def boot_id(self) -> str:
        """The kernel's name for this boot; another after a reboot."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id").strip()

    # From outside

    def execute(self, command: str, **arguments: Any) -> Any:
        """Give a command of qemu's monitor protocol (QMP), and return what it returns."""
        return self.qemu.execute(command, **arguments)

    def cut(self) -> None:
        """Cut the network: what is under way hangs, and nobody is told. ``run`` still works."""
        self.qemu.set_link(False)

    def join(self) -> None:
        """The network is back."""
        self.qemu.set_link(True)

    def image(self, serial: str) -> Path:
        """A raw image of a disk of a machine that is off; removed with the machine."""
        raw = self.folder / f"{serial}.raw"
        disk = self.folder / f"{serial}.qcow2"
        run("qemu-img", "convert", "-O", "raw", disk, raw, timeout=300)
        return raw

    def reset(self) -> None:
        """Press the reset button, and wait until it has booted again."""
        self.execute("system_reset")
        self.wait_for_ssh()

    def boot(self) -> None:
        """Start it after it has powered off, from its disks as they are."""
        self.stop()
        self.qemu.start(load=False)
        self.wait_for_ssh()

    def restore(self) -> None:
        """Bring it back to the saved state, with the time of now; takes seconds."""
        self.stop()
        state = saved_state(self.suite)
        for serial in DISKS:
            disk = f"{serial}.qcow2"
            run("cp", "--reflink=auto", "--sparse=always", state / disk, self.folder / disk)
        for name in ("kernel", "initrd"):
            with contextlib.suppress(FileExistsError):
                (self.folder / name).hardlink_to(state / name)
        self.qemu.start(load=True)
        self.wait_for_ssh(_RESTORE_SECONDS)
        self.run("date", "--set", f"@{time.time():.3f}")

    def wait_for_ssh(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait for the agent, whose old connection is given up, and for its sshd."""
        self.disconnect()
        deadline = time.monotonic() + seconds
        self._control = connect(self.qemu, seconds)
        while not self.answers():
            if time.monotonic() > deadline:
                raise MachineError(f"{self}: no sshd: {self.qemu.console()}")
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether its sshd greets a new connection within five seconds."""
        here = ("127.0.0.1", self.port)
        with contextlib.suppress(OSError), socket.create_connection(here, 5) as sshd:
            return sshd.recv(4) == b"SSH-"
        return False

    def disconnect(self) -> None:
        """Give up the connection to the agent."""
        if self._control is not None:
            self._control.close()
            self._control = None

    def stop(self) -> None:
        """Pull the plug."""
        self.disconnect()
        self.qemu.stop()

    def _ask(self, op: str, patience: float = 0, **arguments: Any) -> Any:
        if self._control is None:
            self._control = connect(self.qemu, _RESTORE_SECONDS)
        return self._control.ask(op, patience, **arguments)


@contextlib.contextmanager
def open_machine(release: int | str = 12, folder: Path | None = None) -> Iterator[Machine]:
    """Start a machine, and remove it at the end of the block. Several at once are fine.

    :param release: of Debian: a number, or a code name.
    :param folder: where its own folder is made; the cache when not given.
    :raises LabError: a tool failed, or the machine did not come up.
    """
    with contextlib.ExitStack() as stack:
        parent = folder or cache_folder() / "machines"
        own = stack.enter_context(_own_folder(parent))
        machine = Machine(suite_of(release), own)
        stack.callback(machine.stop)
        restore(machine)
        yield machine


def restore(machine: Machine) -> None:
    """Restore a machine; when qemu does not take its saved state, from one that is made anew."""
    try:
        machine.restore()
    except MachineError:
        if machine.qemu.pid():
            raise
        shutil.rmtree(saved_state(machine.suite))
        machine.restore()


@contextlib.contextmanager
def _own_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for a machine, and remove it; those of killed runs are removed first.

    Its owner holds a lock on it for as long as it lives.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with (parent / "lock").open("w") as all_machines:
            fcntl.flock(all_machines, fcntl.LOCK_EX)
            clear_left_overs(parent)
            own = parent / uuid.uuid4().hex[:10]
            own.mkdir()
            lock = stack.enter_context((own / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        stack.callback(shutil.rmtree, own)
        yield own


def clear_left_overs(parent: Path) -> list[str]:
    """Stop and remove machines whose owner is no more; return the names of their folders."""
    cleared = []
    for lock_file in sorted(parent.glob("*/lock")):
        with lock_file.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            Qemu(lock_file.parent).stop()
            shutil.rmtree(lock_file.parent)
            cleared.append(lock_file.parent.name)
    return cleared
