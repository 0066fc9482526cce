# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands: whether they are needed, and where their programs are, before anything is frozen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._run import Commands


def commands(*argvs: list[str], **options: Any) -> Commands:
    """These commands, with options that differ from the defaults."""
    defaults: dict[str, Any] = {
        "chdir": None,
        "environment": {},
        "creates": None,
        "removes": None,
    }
    return Commands(list(argvs), **{**defaults, **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a program and a file in it."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "quiesce-test"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "done").touch()
    (tmp_path / "[x]").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, None),
        ({"creates": "done"}, "skipped, since done exists"),
        ({"creates": "absent"}, None),
        ({"creates": "do*"}, "skipped, since do\\* exists"),
        ({"creates": "no*"}, None),
        ({"creates": "bin"}, "bin exists"),
        ({"creates": "dangling"}, "dangling exists"),
        ({"removes": "done"}, None),
        ({"removes": "absent"}, "skipped, since absent does not exist"),
        ({"removes": "no*"}, "does not exist"),
        ({"removes": "done", "creates": "absent"}, None),
        ({"removes": "absent", "creates": "absent"}, "absent does not exist"),
        ({"removes": "done", "creates": "done"}, "done exists"),
        # Empty is as good as not given.
        ({"removes": "", "creates": ""}, None),
    ],
)
def test_needless(folder: Path, options: dict[str, str], why: str | None) -> None:
    (folder / "dangling").symlink_to("/no/such/file")
    found = commands(["true"], chdir=str(folder), **options).needless()
    assert (found is None) == (why is None)
    if found and why:
        assert why.replace("\\", "") in found


def test_needless_takes_absolute_paths_and_begins_at_the_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert commands(["true"], creates=str(folder / "done")).needless()
    assert commands(["true"], creates=str(folder / "done"), chdir="/").needless()
    # Not where the module happens to run.
    assert commands(["true"], creates="done").needless() is None
    assert commands(["true"], creates=str(folder / "done").lstrip("/")).needless()


@pytest.mark.parametrize("pattern", ["/a\0/*", "/\ud800/*"])
@pytest.mark.parametrize("option", ["creates", "removes"])
def test_needless_refuses_what_is_no_path(option: str, pattern: str) -> None:
    with pytest.raises(QuiesceError, match="is not a path"):
        commands(["true"], **{option: pattern}).needless()


def test_a_program_is_searched_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"/no/such/folder:{folder}/bin")
    expected = [[f"{folder}/bin/quiesce-test", "-x", "", "a b"], [f"{folder}/bin/quiesce-test"]]
    found = commands(["quiesce-test", "-x", "", "a b"], ["quiesce-test"]).prepared()
    assert found == expected


def test_the_commands_own_path_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    with pytest.raises(QuiesceError, match="'quiesce-test' is not there"):
        commands(["quiesce-test"]).prepared()
    environment = {"PATH": f"{folder}/bin"}
    (found,) = commands(["quiesce-test"], environment=environment).prepared()
    assert found == [f"{folder}/bin/quiesce-test"]


def test_system_programs_are_found_without_their_folder_in_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(n for n in sorted(os.listdir("/sbin")) if os.access(f"/sbin/{n}", os.X_OK))
    for path in (f"{folder}/bin", ""):
        monkeypatch.setenv("PATH", path)
        (found,) = commands([name]).prepared()
        assert os.path.samefile(found[0], f"/sbin/{name}")


@pytest.mark.parametrize("program", ["bin/quiesce-test", "./bin/quiesce-test"])
def test_a_relative_program_is_one_of_chdir(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.chdir(folder.parent)
    for chdir in (str(folder), folder.name):
        (found,) = commands([program], chdir=chdir).prepared()
        assert os.path.isabs(found[0])
        assert os.path.samefile(found[0], folder / "bin" / "quiesce-test")


def test_a_relative_program_without_chdir_is_one_of_the_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(QuiesceError, match="is not there"):
        commands(["bin/quiesce-test"]).prepared()
    (found,) = commands(["bin/sh"]).prepared()
    assert found == ["/bin/sh"]


@pytest.mark.parametrize(
    ("argvs", "chdir", "message"),
    [
        ([], None, "commands is empty"),
        ([[]], None, "a command is empty"),
        ([[""]], None, "a command is empty"),
        ([["sh"], []], None, "a command is empty"),
        ([["no-such-program-here"]], None, "'no-such-program-here' is not there"),
        ([["/no/such/program"]], None, "'/no/such/program' is not there"),
        # Neither a folder nor a file without x is a program.
        ([["/"]], None, "not executable"),
        ([["/etc/passwd"]], None, "not executable"),
        ([["sh\0"]], None, "is not there"),
        ([["sh"]], "/no/such/folder", "chdir: /no/such/folder is not a folder"),
        ([["sh"]], "/etc/passwd", "is not a folder"),
        ([["sh"]], "/nul\0", "is not a folder"),
    ],
)
def test_what_cannot_be_run(argvs: list[list[str]], chdir: str | None, message: str) -> None:
    with pytest.raises(QuiesceError, match=message):
        commands(*argvs, chdir=chdir).prepared()
