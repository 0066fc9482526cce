# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A qemu process whose files are in one folder, and its monitor."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._qmp import Qmp

from .control import MachineError
from .image import CONTROL_PORT

DISKS = {"root": "", "data": "512M", "xfs": "512M", "pv1": "1G", "pv2": "1G", "spare": "512M"}
"""The disks, by serial number, /dev/vda first; all but the first begin empty."""

SAVED = "ready"
"""The name of the saved state in the disks."""

# An emulated processor is slow enough; where it starved, a boot would take minutes. Beside tests
# that count milliseconds it can be told to stand back.
_NICE = int(os.environ.get("QUIESCE_VM_NICE") or -15)
_PROGRAM = ("nice", "-n", str(_NICE - os.nice(0)), "qemu-system-x86_64")
_KERNEL = (
    "root=/dev/vda rw console=ttyS0 panic=-1 net.ifnames=0 mitigations=off "
    "systemd.default_standard_output=journal"
)
_SECONDS = 20.0
_SOCKET = "qmp"


class Qemu:
    """One machine's process. Its command line is the same for all machines of one kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"ansible": 0, "control": 0}

    def start(self, load: bool) -> None:
        """Start it: from the saved state, or by a boot.

        :raises MachineError: it ended at once; the text holds what it said.
        """
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*_PROGRAM, *self.arguments(), *(["-loadvm", SAVED] if load else [])],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Where sessions share the processors, it is its session whose niceness counts.
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(str(_NICE))
        # Nobody else needs to wait for it.
        threading.Thread(target=process.wait, daemon=True).start()
        (self.folder / "pid").write_text(str(process.pid))
        deadline = time.monotonic() + _SECONDS
        while not self._listens():
            if process.poll() is not None or time.monotonic() > deadline:
                raise MachineError(f"qemu did not start: {self.said()}")
            time.sleep(0.02)
        self.note_ports()

    def arguments(self) -> Iterator[str]:
        """Its command line, but for what it starts from."""
        # KVM starts no stock kernel on every machine; software emulation does.
        yield from ("-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "1", "-m", "512")
        yield from ("-nodefaults", "-display", "none", "-serial", "file:console")
        yield from ("-kernel", "kernel", "-initrd", "initrd", "-append", _KERNEL)
        yield from ("-qmp", f"unix:{_SOCKET},server=on,wait=off")
        yield from ("-device", "virtio-rng-pci")
        for serial in DISKS:
            file = f"file={serial}.qcow2,format=qcow2,cache=unsafe,discard=unmap"
            yield from ("-drive", f"if=none,id={serial},{file}")
            yield from (
                "-device",
                f"virtio-blk-pci,id=disk-{serial},drive={serial},serial={serial}",
            )
        yield from ("-device", "virtio-serial-pci")
        yield from ("-chardev", "socket,id=qga,path=qga,server=on,wait=off")
        yield from ("-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0")
        to = {"ansible": ("10.0.2.0/24", "10.0.2.15:22")}
        to["control"] = ("10.0.3.0/24", f"10.0.3.15:{CONTROL_PORT}")
        for name, (net, target) in to.items():
            forward = f"hostfwd=tcp:127.0.0.1:{self.ports[name]}-{target}"
            yield from ("-netdev", f"user,id={name},net={net},restrict=on,{forward}")
            yield from ("-device", f"virtio-net-pci,id=nic-{name},netdev={name},romfile=")

    def _listens(self) -> bool:
        with contextlib.suppress(MachineError):
            return bool(self.execute("query-status"))
        return False

    def note_ports(self) -> None:
        """Remember the ports that the kernel chose, so that they stay over a new start."""
        said = self.monitor("info usernet")
        for name, inside in (("ansible", 22), ("control", CONTROL_PORT)):
            found = re.search(rf"HOST_FORWARD\]\s+\d+\s+127.0.0.1\s+(\d+)\s+\S+\s+{inside}\s", said)
            if found is None:
                raise MachineError(f"no port for {name}: {said}")
            self.ports[name] = int(found[1])

    def execute(self, command: str, **arguments: Any) -> Any:
        """Give a command of qemu's monitor protocol (QMP), and return what it returns."""
        try:
            with Qmp(str(self.folder / _SOCKET), timeout=120) as monitor:
                return monitor.execute(command, **arguments)
        except QuiesceError as error:
            raise MachineError(f"{command} {arguments}: {error.message}") from error

    def monitor(self, line: str) -> str:
        """Give a command of the monitor for people, for what QMP has none."""
        return str(self.execute("human-monitor-command", **{"command-line": line}))

    def set_link(self, up: bool) -> None:
        """Cut the link that Ansible uses, or join it; that of the tests stays."""
        self.execute("set_link", name="nic-ansible", up=up)

    def snapshot(self, name: str) -> dict[str, Path]:
        """Keep all disks as they are at one moment; the files that hold them, by serial number.

        What is written from now on goes to other files, with ``name`` in theirs.
        """
        blocks = self.execute("query-block")
        files = {block["device"]: self.folder / block["inserted"]["file"] for block in blocks}
        actions = []
        for serial in files:
            data = {"device": serial, "format": "qcow2"}
            data["snapshot-file"] = f"{serial}-since-{name}.qcow2"
            actions.append({"type": "blockdev-snapshot-sync", "data": data})
        self.execute("transaction", actions=actions)
        return files

    def pid(self) -> int:
        """Its pid; 0 when it does not run."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "pid").read_text())
            if os.path.samefile(f"/proc/{pid}/cwd", self.folder):
                return pid
        return 0

    def wait_for_end(self, seconds: float) -> float:
        """Seconds until the process ended, as it does when the machine powers off."""
        began = time.monotonic()
        while self.pid():
            if time.monotonic() - began > seconds:
                raise MachineError(f"qemu has not ended within {seconds:g} s: {self.console()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def stop(self) -> None:
        """Kill the process, if it runs; the machine's processes, frozen or not, go with it."""
        pid = self.pid()
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            with contextlib.closing(os.fdopen(pidfd)):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                if not select.select([pidfd], [], [], _SECONDS)[0]:
                    raise MachineError(f"qemu, pid {pid}, does not end")

    def said(self) -> str:
        """What qemu itself had to say."""
        return (self.folder / "log").read_text(errors="replace").strip()[-2000:]

    def console(self) -> str:
        """The end of what the kernel and systemd wrote to the console."""
        with contextlib.suppress(OSError):
            return (self.folder / "console").read_text(errors="replace")[-4000:]
        return ""
