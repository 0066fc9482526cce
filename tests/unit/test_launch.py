# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's bundle: whole, the same every time, and good for every Python."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils import _launch

from tests.unit.pythons import VERSIONS, find
from tests.unit.sources import COLLECTION, PACKAGE, closure

# Only what a module of the collection would have imported, and no test.
_BUNDLE = f"""
import sys
from {PACKAGE} import _launch, _lease
_lease.RUN = sys.argv[1]
print(_launch._bundle())
"""


def bundle(folder: Path) -> Path:
    """Make the bundle in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _BUNDLE, str(folder)],
        env={**os.environ, "PYTHONPATH": str(COLLECTION), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("run"))


def standalone(python: str, made: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the bundle as a guard is run: without site-packages, environment or working folder."""
    return subprocess.run(
        [python, "-I", "-S", "-B", str(made), *words],
        env={"LC_ALL": "C"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_it_runs_by_itself(version: str, made: Path) -> None:
    """Everything is imported before the first word of the command line is looked at."""
    python = find(version)
    done = standalone(python, made)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("IndexError: list index out of range"), done.stderr
    # A guard that nobody waits for goes no further.
    done = standalone(python, made, "guard", "/no/such/socket")
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr.splitlines()[-1], done.stderr
    # After a lease of which there is no trace, there is nothing to do.
    done = standalone(python, made, "after", f"unit-{uuid.uuid4().hex}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_python_from_the_oldest_on() -> None:
    """As the README has it: 3.8 or newer. None is left out."""
    minors = [int(version.removeprefix("3.")) for version in VERSIONS]
    assert minors == list(range(8, max(minors) + 1))
    assert max(minors) >= 13
    assert len({find(version) for version in VERSIONS}) == len(VERSIONS)


def test_a_python_that_is_not_there_is_no_reason_to_skip() -> None:
    with pytest.raises(AssertionError, match=r"^no Python 3\.7777 on this machine; see /.*\.txt$"):
        find("3.7777")


def test_everything_that_the_guard_imports_is_in_it(made: Path) -> None:
    prefix = PACKAGE.replace(".", "/")
    wanted = closure({"_guard", "_after"})
    assert len(wanted) > 10
    with zipfile.ZipFile(made) as archive:
        inside = set(archive.namelist())
        for name in wanted:
            source = (COLLECTION / prefix / f"{name}.py").read_text()
            assert archive.read(f"{prefix}/{name}.py").decode() == source
    assert "__main__.py" in inside
    folders = prefix.split("/")
    for count in range(1, len(folders) + 1):
        assert "/".join([*folders[:count], "__init__.py"]) in inside


def test_nothing_of_ansible_or_the_tests_is_in_it(run_folder: Path) -> None:
    with zipfile.ZipFile(_launch._bundle()) as archive:
        for name in archive.namelist():
            assert name == "__main__.py" or name.startswith("ansible_collections/")
            if "quiesce/storage/plugins/" in name and not name.endswith("__init__.py"):
                assert "/module_utils/_" in name


def test_the_same_code_is_the_same_file(made: Path, tmp_path: Path) -> None:
    before = made.stat()
    again = bundle(made.parent)
    assert again == made
    assert (again.stat().st_ino, again.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    other = bundle(tmp_path)
    assert other.name == made.name
    assert other.read_bytes() == made.read_bytes()
    assert os.listdir(tmp_path) == [made.name]


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("", '""'),
        ("/usr/bin/python3", '"/usr/bin/python3"'),
        ("a b", '"a b"'),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        (r"a\"b", r'"a\\\"b"'),
        ("$HOME", '"$$HOME"'),
        # systemd-run hands it over as it stands, and systemd escapes it where it writes it down.
        ("100%n", '"100%n"'),
        ("'", '"\'"'),
        (";", '";"'),
    ],
)
def test_words_for_systemd(word: str, quoted: str) -> None:
    assert _launch._quoted(word) == quoted
