# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that outlive the command that starts them, each in a folder of its own.

python -m tests.vm start FOLDER RELEASE    writes FOLDER/port and FOLDER/key for ssh
python -m tests.vm snapshot FOLDER NAME    keeps the disks as of now, and prints their files
python -m tests.vm cut FOLDER              and join: the network
python -m tests.vm stop FOLDER…            pulls the plug and removes all of the folder
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from .image import suite_of
from .machine import Machine, restore
from .qemu import Qemu


def start(folder: Path, release: str) -> None:
    """Start a machine of a release, given by number or by name."""
    folder.mkdir(parents=True)
    machine = Machine(suite_of(int(release) if release.isdigit() else release), folder)
    restore(machine)
    machine.disconnect()
    shutil.copy(machine.key, folder / "key")
    (folder / "port").write_text(f"{machine.port}\n")


def snapshot(folder: Path, name: str) -> None:
    """Keep all disks as they are at this moment, as a hypervisor or a storage array would."""
    print(json.dumps(Qemu(folder).snapshot(name), default=str))


def cut(folder: Path) -> None:
    """Cut the network."""
    Qemu(folder).set_link(False)


def join(folder: Path) -> None:
    """Join the network again."""
    Qemu(folder).set_link(True)


def stop(*folders: Path) -> None:
    """Stop machines, in whatever state they are, and remove their folders."""
    for folder in folders:
        Qemu(folder).stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="start a machine").add_argument("folder", type=Path)
    commands.choices["start"].add_argument("release")
    commands.add_parser("snapshot", help="keep the disks").add_argument("folder", type=Path)
    commands.choices["snapshot"].add_argument("name")
    commands.add_parser("cut", help="cut the network").add_argument("folder", type=Path)
    commands.add_parser("join", help="join it again").add_argument("folder", type=Path)
    commands.add_parser("stop", help="stop and remove").add_argument("folder", type=Path, nargs="*")
    options = vars(parser.parse_args())
    command = options.pop("command")
    if command == "stop":
        stop(*options["folder"])
    else:
        getattr(sys.modules[__name__], command)(**options)


if __name__ == "__main__":
    main()
