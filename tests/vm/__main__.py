# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines that outlive a command (as root, with the checkout in PYTHONPATH):

python -m tests.vm start FOLDER 11 12                  their inventory is FOLDER/inventory.json
python -m tests.vm frozen FOLDER                       what is frozen, as the kernels say
python -m tests.vm run FOLDER debian12 COMMAND…        as root, also while / is frozen
python -m tests.vm thawed FOLDER debian12 COMMAND…     and how long after it nothing was frozen
python -m tests.vm link FOLDER debian12 down           the network is cut
python -m tests.vm stop FOLDER                         whatever is left of them
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from .control import MachineError
from .image import SUITES
from .machine import Machine, restore
from .qemu import Qemu

_INVENTORY = "inventory.json"
_THAW_SECONDS = 60.0


def start(folder: Path, releases: list[int]) -> None:
    """Start one machine of each release, and write an inventory of them."""
    stop(folder)
    hosts = {}
    for release in releases:
        own = folder / f"debian{release}"
        own.mkdir(parents=True)
        machine = Machine(SUITES[release], own)
        restore(machine)
        machine.disconnect()
        hosts[own.name] = machine.variables(vm_suite=machine.suite)
    inventory = {"machines": {"hosts": hosts}}
    (folder / _INVENTORY).write_text(json.dumps(inventory, indent=2))


def machine_of(folder: Path, name: str) -> Machine:
    """Return a machine that an earlier command has started."""
    inventory = json.loads((folder / _INVENTORY).read_text())
    suite = inventory["machines"]["hosts"][name]["vm_suite"]
    machine = Machine(suite, folder / name)
    machine.qemu.note_ports()
    return machine


def frozen(folder: Path) -> dict[str, list[str]]:
    """Return what is frozen, by the name of the machine."""
    found = {}
    for own in sorted(folder.glob("*/")):
        machine = machine_of(folder, own.name)
        found[own.name] = machine.frozen()
        machine.disconnect()
    return {name: paths for name, paths in found.items() if paths}


def stop(folder: Path) -> None:
    """Stop all machines, in whatever state they are, and remove the folder."""
    for own in folder.glob("*/"):
        Qemu(own).stop()
    shutil.rmtree(folder, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description="Virtual machines")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, help: str, of_one: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help)
        command.add_argument("folder", type=Path)
        if of_one:
            command.add_argument("machine")
        return command

    start_ = add("start", "start one of each release", of_one=False)
    start_.add_argument("releases", type=int, nargs="+", choices=list(SUITES))
    add("stop", "stop all of them, and remove the folder", of_one=False)
    add("frozen", "print what is frozen, as the kernels say", of_one=False)
    add("run", "run a command").add_argument("argv", nargs=argparse.REMAINDER)
    thawed = add("thawed", "run a command; print the seconds until nothing is frozen")
    thawed.add_argument("argv", nargs=argparse.REMAINDER)
    add("link", "cut the network, or join it").add_argument("state", choices=["up", "down"])
    return parser.parse_args()


def _of_one(args: argparse.Namespace, machine: Machine) -> Any:
    if args.command == "run":
        return machine.run(*args.argv)
    if args.command == "thawed":
        return machine.thawed_after(*args.argv, seconds=_THAW_SECONDS)
    return machine.qemu.set_link(args.state == "up")


def _run(args: argparse.Namespace) -> None:
    folder = args.folder.absolute()
    if args.command == "start":
        start(folder, args.releases)
    elif args.command == "stop":
        stop(folder)
    elif args.command == "frozen":
        print(json.dumps(frozen(folder)))
    else:
        machine = machine_of(folder, args.machine)
        answer = _of_one(args, machine)
        machine.disconnect()
        if answer is not None:
            print(answer)


if __name__ == "__main__":
    try:
        _run(_arguments())
    except MachineError as error:
        sys.exit(f"python -m tests.vm: {error}")
