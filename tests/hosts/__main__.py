# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet on this machine, by the command line (as root, with the checkout in PYTHONPATH):

python -m tests.hosts start --number 3       its inventory is /var/tmp/quiesce-fleet/inventory.json
python -m tests.hosts load                   writers on all filesystems of all hosts
python -m tests.hosts frozen --wait 30       what is frozen, as the kernel says
python -m tests.hosts link host2 down        a host that does not answer
python -m tests.hosts stop                   whatever is left of it
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ansible_collections.quiesce.storage.plugins.module_utils._superblock import Reader

from tests.kernel.lab import LabError
from tests.kernel.lab.load import PROGRAM

from . import keeper
from .host import set_link

_FOLDER = Path("/var/tmp/quiesce-fleet")
# Runs in a host, which has the demo's load as /run/load.py. In one process, since 300 processes
# for 100 hosts would take more memory than these.
_WRITERS = """\
import sys, threading
from pathlib import Path
sys.path.insert(0, "/run")
# A page written through a mapping of a frozen file: that waits with the interpreter's lock held,
# and the other threads would ask for it two hundred times a second.
sys.setswitchinterval(60)
import load
load.PER_SECOND = dict.fromkeys(load.WRITERS, float(sys.argv[1]))
for path in sys.argv[2:]:
    folder = Path(path, load.FOLDER)
    folder.mkdir(exist_ok=True)
    for work in (load.append_forever, load.map_forever, load.rename_forever):
        threading.Thread(target=work, args=(folder, lambda number: None)).start()
"""


def frozen(folder: Path) -> dict[str, list[str]]:
    """Return which filesystems of which hosts are frozen, as the kernel says.

    :raises LabError: no fleet is running there, or a host of it is gone.
    """
    reader = Reader()
    found: dict[str, list[str]] = {}
    for name, variables in keeper.members(folder).items():
        for path in variables["fleet_paths"]:
            try:
                fd = os.open(_outside(variables["fleet_init"], path), os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError as error:
                raise LabError(f"{name} is gone") from error
            try:
                if reader.state(fd) != "thawed":
                    found.setdefault(name, []).append(path)
            finally:
                os.close(fd)
    return found


def load(folder: Path, per_second: float) -> None:
    """Start the writers of the demo in each host, each of which does so much a second.

    They end with their host, and need nothing of it but Python.
    """
    for variables in keeper.members(folder).values():
        init = variables["fleet_init"]
        _outside(init, "/run/load.py").write_bytes(PROGRAM.read_bytes())
        argv = ["nsenter", "--target", str(init), "--all", "--root", "--wd"]
        argv += ["python3", "-c", _WRITERS, str(per_second), *variables["fleet_paths"]]
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def link(folder: Path, name: str, up: bool) -> None:
    """Take the link of a host up or down; LabError if there is no such host."""
    variables = keeper.members(folder).get(name)
    if variables is None:
        raise LabError(f"{name}: no host of this fleet")
    set_link(variables["fleet_init"], variables["ansible_host"], up)


def _outside(init: int, path: str) -> Path:
    return Path(f"/proc/{init}/root", path.lstrip("/"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description="A fleet of hosts")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, help: str | None = None) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help) if help else commands.add_parser(name)
        command.add_argument("--folder", type=Path, default=_FOLDER, help=f"default: {_FOLDER}")
        return command

    for name in ("start", "keep"):
        command = add(name, "start a fleet" if name == "start" else None)
        command.add_argument("--number", type=int, default=3, help="of hosts, default: 3")
        command.add_argument(
            "--thaw-after",
            type=float,
            default=300,
            help="seconds that nothing is frozen for longer",
        )
        if name == "keep":  # by start alone
            command.add_argument("--lock", type=int, required=True)
    add("stop", "take it down, whatever is left of it")
    command = add("frozen", "print what is frozen, as the kernel says")
    command.add_argument("--wait", type=float, help="fail if anything is, so many seconds later")
    command = add("load", "keep all of its filesystems busy")
    command.add_argument("--per-second", type=float, default=20, help="of each writer; default: 20")
    command = add("link", "take the link of a host up or down")
    command.add_argument("host")
    command.add_argument("state", choices=["up", "down"])
    return parser.parse_args()


def _run(args: argparse.Namespace) -> int:
    folder = args.folder.absolute()
    if args.command == "start":
        keeper.start(folder, args.number, args.thaw_after)
        print(folder / keeper.INVENTORY)
    elif args.command == "keep":
        keeper.keep(folder, args.number, args.thaw_after, args.lock)
    elif args.command == "stop":
        keeper.stop(folder)
    elif args.command == "load":
        load(folder, args.per_second)
    elif args.command == "link":
        link(folder, args.host, args.state == "up")
    else:
        deadline = time.monotonic() + (args.wait or 0)
        found = frozen(folder)
        while found and time.monotonic() < deadline:
            time.sleep(0.05)
            found = frozen(folder)
        print(json.dumps(found))
        return 1 if found and args.wait is not None else 0
    return 0


if __name__ == "__main__":
    try:
        sys.exit(_run(_arguments()))
    except LabError as error:
        sys.exit(f"python -m tests.hosts: {error}")
