# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage of the playbook ``demo``: filesystems of its own, a load on them, and the way back.

Everything lives below one new folder: an XFS in a sparse file, and on it the images of the
filesystems to be shown, all mounted through loop devices::

    demo_stage.py up --parent /var/tmp ext4 xfs    prints the folder and the filesystems
    demo_stage.py load FOLDER
    demo_stage.py lost FOLDER --clone FILE --fstype xfs --sample '{"append": 812, ...}'
    demo_stage.py down FOLDER

Ansible runs no ``always`` section when it is interrupted, so ``up`` leaves a process behind that
waits for the end of ansible-playbook, however it comes, and then takes the stage down.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

FITHAW = 0xC0045878
BASE_BYTES = 2 << 30
IMAGE_BYTES = 400 << 20
LOAD_SECONDS = 300
DOWN_SECONDS = 30.0
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
}
PREFIX = "quiesce-demo-"
LOAD = Path(__file__).resolve().with_name("load.py")


class StageError(Exception):
    """The stage cannot be set up or taken down; the text says why."""


def up(parent: Path, fstypes: Sequence[str]) -> dict[str, object]:
    """Set the stage below a new folder in ``parent``.

    :returns: the folder, and for each filesystem its type, mountpoint and image.
    :raises StageError: this is not run by ansible-playbook, or a tool fails.
    """
    watched = controller()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    start(__file__, "watch", str(folder), "--pid", str(watched))
    base = folder / "base"
    make_filesystem(folder / "base.img", BASE_BYTES, ["mkfs.xfs", "-q", "-m", "reflink=1"])
    mount(folder / "base.img", base)
    filesystems = []
    for fstype in fstypes:
        image, point = base / f"{fstype}.img", folder / fstype
        make_filesystem(image, IMAGE_BYTES, MAKE[fstype])
        mount(image, point)
        filesystems.append({"fstype": fstype, "mountpoint": str(point), "image": str(image)})
    return {"folder": str(folder), "clones": str(base), "filesystems": filesystems}


def controller() -> int:
    """Return the process ID of the ansible-playbook that this was started by.

    Its workers are forks of it, so the topmost one of that name is meant.
    """
    pid, found = os.getppid(), 0
    while pid > 1:
        words = command_line(pid)
        if any(Path(word).name == "ansible-playbook" for word in words[:3]):
            found = pid
        elif found:
            break
        pid = int(stat_of(pid)[1])
    if not found:
        raise StageError("this has to be started by ansible-playbook, whose end it waits for")
    return found


def command_line(pid: int) -> list[str]:
    """Return the words of a process; none if it has ended."""
    with contextlib.suppress(OSError):
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
    return []


def make_filesystem(image: Path, size: int, argv: Sequence[str]) -> None:
    """Make a sparse file with a filesystem in it."""
    with image.open("wb") as file:
        file.truncate(size)
    run(*argv, str(image))


def mount(image: Path, point: Path, *options: str) -> None:
    """Mount an image through a loop device, which goes away with the mount."""
    point.mkdir(exist_ok=True)
    run("mount", "-o", ",".join(["loop", *options]), str(image), str(point))


def run(*argv: str) -> str:
    """Run a command and return what it said; ``StageError`` with that if it fails."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise StageError(f"{argv[0]} is not installed") from error
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        raise StageError(f"{' '.join(argv)} failed (rc {done.returncode}): {said}")
    return said


def start(program: str, *words: str) -> None:
    """Start a program in Python that outlives this one."""
    subprocess.Popen(
        [sys.executable, str(Path(program).resolve()), *words],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def watch(folder: Path, pid: int) -> None:
    """Take the stage down once the process ``pid`` has ended, unless that has been done."""
    since = born(pid)
    while since and born(pid) == since and folder.exists():
        time.sleep(0.5)
    if folder.exists():
        down(folder)


def born(pid: int) -> str:
    """Return when a process was started, which tells it from a later one; empty if it has ended."""
    with contextlib.suppress(OSError):
        return stat_of(pid)[19]
    return ""


def stat_of(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat that follow the name of the program."""
    status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    return status.rpartition(")")[2].split()


def load_all(folder: Path) -> None:
    """Start a load on every filesystem of the stage; each ends by itself in the end."""
    for point, _source in mounts_below(folder):
        if point.name != "base":
            words = [
                "--directory",
                str(point),
                "--progress",
                str(folder / f"{point.name}.progress"),
            ]
            start(str(LOAD), "run", *words, "--seconds", str(LOAD_SECONDS))


def lost(folder: Path, clone: Path, fstype: str, sample: str) -> int:
    """Count the records that a clone lacks. The clone is mounted for that, and so changed."""
    point = folder / "look"
    mount(clone, point, *(["nouuid"] if fstype == "xfs" else []))
    try:
        words = ["verify", "--snapshot-mount", str(point), "--progress", sample]
        answer = json.loads(run(sys.executable, str(LOAD), *words))
    finally:
        run("umount", str(point))
    return int(answer["lost"])


def down(folder: Path) -> None:
    """Take the stage down, whatever it looks like.

    Nothing but what lies below ``folder`` is touched.

    :raises StageError: something of it was still in use at the end.
    """
    if not folder.name.startswith(PREFIX):
        raise StageError(f"{folder} is no stage of this program")
    deadline = time.monotonic() + DOWN_SECONDS
    while True:
        for point, _source in mounts_below(folder):
            thaw(point)
        for pid in processes_below(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        problem = take_apart(folder)
        if not problem:
            shutil.rmtree(folder, ignore_errors=True)
            # A mount that was on its way can have come in between.
            if not folder.exists() and not mounts_below(folder):
                return
        if time.monotonic() > deadline:
            raise StageError(problem or f"{folder} could not be removed")
        time.sleep(0.3)


def thaw(point: Path) -> None:
    """Thaw a filesystem; no matter if it was not frozen."""
    with contextlib.suppress(OSError):
        fd = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, FITHAW, 0)
        finally:
            os.close(fd)


def take_apart(folder: Path) -> str:
    """Unmount and detach all that can be; return what could not, empty if nothing is left."""
    problem = ""
    for point, _source in reversed(mounts_below(folder)):
        try:
            run("umount", str(point))
        except StageError as error:
            problem = str(error)
    for device in loops_below(folder):
        problem = problem or f"{device} is still attached"
        with contextlib.suppress(StageError):
            run("losetup", "--detach", device)
    return problem


def mounts_below(folder: Path) -> list[tuple[Path, str]]:
    """Return mountpoints below the folder with what is mounted there, the earliest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        words = line.split(" ")
        point = Path(words[4])
        if folder in point.parents:
            found.append((point, words[words.index("-") + 2]))
    return found


def loops_below(folder: Path) -> Iterator[str]:
    """Yield loop devices whose file is below the folder."""
    for name in Path("/sys/block").glob("loop*"):
        with contextlib.suppress(OSError):
            if (name / "loop/backing_file").read_text("utf-8", "replace").startswith(f"{folder}/"):
                yield f"/dev/{name.name}"


def processes_below(folder: Path) -> Iterator[int]:
    """Yield processes that were told to work below the folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), os.getppid()):
            continue
        if any(f"{folder}/" in word for word in command_line(int(entry.name))):
            yield int(entry.name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The stage of the playbook demo")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("up", help="make and mount the filesystems")
    command.add_argument("--parent", type=Path, required=True, help="where to make the folder")
    command.add_argument("fstypes", nargs="+", choices=sorted(MAKE))
    for name, text in (
        ("load", "start a load on each of them"),
        ("lost", "count what a clone lacks"),
        ("down", "thaw, end, unmount and remove all of it"),
        ("watch", "do that when a process has ended"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("folder", type=Path)
        if name == "lost":
            command.add_argument("--fstype", required=True)
            command.add_argument("--clone", type=Path, required=True)
            command.add_argument("--sample", required=True)
        if name == "watch":
            command.add_argument("--pid", type=int, required=True)
    return parser.parse_args()


def main() -> int:
    """Run the command line; the return code is 1, with a sentence, where it cannot be done."""
    args = _arguments()
    try:
        if args.command == "up":
            print(json.dumps(up(args.parent, args.fstypes)))
        elif args.command == "load":
            load_all(args.folder)
        elif args.command == "lost":
            print(lost(args.folder, args.clone, args.fstype, args.sample))
        elif args.command == "watch":
            watch(args.folder, args.pid)
        else:
            down(args.folder)
    except (StageError, OSError) as error:
        print(f"demo_stage.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
