# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""restic and borg: what comes back is what the snapshot has; what fails leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.plays import running
from tests.kernel.lab import MIB, Filesystem, Lab, Load, load, run
from tests.kernel.lab.loops import loops_of, mounts

from . import trees
from .scene import THIS_HOST

PATH = Path("/run/quiesce-backup")
PROGRAMS = ("restic", "borg")
_SECONDS = 300.0


class Stage:
    """Two busy filesystems that are backed up into a repository in ``folder``."""

    def __init__(self, lab: Lab, folder: Path, busy: list[tuple[Filesystem, Load]]) -> None:
        self.lab = lab
        self.folder = folder
        self.busy = busy
        self.password = folder / "a password"
        self.password.write_text("secret\n")

    def snapshot(self, of: Filesystem, name: str) -> Path:
        """Where the snapshot of that name is."""
        return of.image.with_name(f"{of.image.name}.{name}")

    def back_up(self, program: str, name: str) -> tuple[int, str]:
        """Run the playbook of the collection; return its exit status and what it said."""
        folder = self.folder / f"play-{name}"
        folder.mkdir()
        variables = {
            **THIS_HOST,
            "consistent_snapshot_paths": [str(each) for each, _load in self.busy],
            "consistent_snapshot_provider": "reflink",
            "consistent_snapshot_name": name,
            "consistent_snapshot_records": str(self.folder / "records"),
            "backup_repository": str(self.folder / program),
            "backup_password_file": str(self.password),
        }
        inventory = folder / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"this": variables}}}))
        argv = ["-i", str(inventory), f"quiesce.storage.backup_{program}"]
        with running(folder, argv, self._environment()) as play:
            return play.finish(_SECONDS), play.said

    def restore(self, program: str, name: str) -> Path:
        """Restore the backup of that name; return where the folders of the snapshots are."""
        target = self.folder / f"restored-{name}"
        target.mkdir()
        repository = self.folder / program
        if program == "restic":
            restic = ["restic", f"--repo={repository}", f"--password-file={self.password}"]
            self._run([*restic, "restore", "latest", f"--tag={name}", f"--target={target}"], target)
            return target / PATH.relative_to("/")
        self._run(["borg", "extract", f"{repository}::this-{name}"], target)
        return target

    def _run(self, argv: list[str], folder: Path) -> None:
        environment = {**os.environ, **self._environment()}
        environment["BORG_PASSCOMMAND"] = f"cat '{self.password}'"
        subprocess.run(argv, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    def _environment(self) -> dict[str, str]:
        """Caches and keys apart from those of the user."""
        return {"BORG_BASE_DIR": str(self.folder), "RESTIC_CACHE_DIR": str(self.folder / "cache")}

    def nothing_left(self) -> None:
        """Nothing is mounted, attached or there of the backup."""
        assert not [mount for mount in mounts() if mount.mountpoint.startswith(f"{PATH}/")]
        assert not PATH.exists()
        attached = run("losetup", "--list", "--noheadings", "--output=BACK-FILE").stdout
        assert len(loops_of(self.lab.folder)) == 1 + len(self.busy), attached


@pytest.fixture
def stage(lab: Lab, tmp_path: Path) -> Iterator[Stage]:
    """Give two filesystems with files of all kinds, and writers on them."""
    with (
        lab.filesystem("ext4", 256 * MIB) as one,
        lab.filesystem("xfs", 320 * MIB) as two,
    ):
        for each in (one, two):
            trees.grow(each.mountpoint / "tree")
        with load(one, fio_rate=1) as first, load(two, fio_rate=1) as second:
            yield Stage(lab, tmp_path, [(one, first), (two, second)])


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_comes_back_is_the_snapshot(stage: Stage, program: str) -> None:
    for name in ("first", "second"):
        samples = [writers.sample() for _busy, writers in stage.busy]
        status, said = stage.back_up(program, name)
        assert status == 0, said
        stage.nothing_left()
        restored = stage.restore(program, name)
        assert sorted(os.listdir(restored)) == sorted(busy.image.name for busy, _load in stage.busy)
        for (busy, writers), sample in zip(stage.busy, samples, strict=True):
            found = restored / busy.image.name
            with stage.lab.mounted(stage.snapshot(busy, name), busy.fstype, True) as original:
                assert not trees.differences(original, found)
            assert not any(writers.lost(found, sample).values())


@pytest.mark.parametrize(
    ("program", "told"), [("restic", "wrong password"), ("borg", "is incorrect")]
)
def test_a_backup_that_fails_leaves_nothing_behind(stage: Stage, program: str, told: str) -> None:
    status, said = stage.back_up(program, "good")
    assert status == 0, said
    stage.password.write_text("wrong\n")
    status, said = stage.back_up(program, "failing")
    assert status == 2, said
    assert "See whether there is a repository: " in said
    assert told in said
    assert "The snapshot failing itself is good" in said
    stage.nothing_left()
    for busy, _writers in stage.busy:
        assert stage.snapshot(busy, "failing").exists()


def test_two_trees_that_differ(tmp_path: Path) -> None:
    """The comparison sees what it is there for."""
    one, other = tmp_path / "one", tmp_path / "other"
    for top in (one, other):
        trees.grow(top)
    # Random content, and times of the files that were made at different moments.
    told = trees.differences(one, other)
    assert any(line.startswith("'random': content") for line in told)
    subprocess.run(["cp", "-a", "--", one, tmp_path / "copy"], check=True)
    copy = tmp_path / "copy"
    assert not trees.differences(one, copy)
    program = copy / "program"
    os.setxattr(program, "user.quiesce", b"another")
    os.chown(program, 1, 1)
    (copy / "link").unlink()
    seen = one.lstat()
    os.utime(copy, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert [line.split(":")[0] for line in trees.differences(one, copy)] == [
        "'link' is in " + f"{one} only",
        *["'program'"] * 3,
        *["'program as well'"] * 3,
    ]
