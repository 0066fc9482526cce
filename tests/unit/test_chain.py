# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make test` says at its end of parts that had to be repeated."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.sources import ROOT

# It says what the file of the part's name has in it, in this run of the part, and fails if that
# has anything in it.
_MAKE = """\
#!/bin/bash
part=$2
echo "$@" >>calls
cd "${0%/*}"
runs=$(($(cat "$part.runs" 2>/dev/null || echo 0) + 1))
echo $runs >"$part.runs"
[ ! -s "$part.$runs" ] && echo "===== 7 passed in 1.00s =====" && exit
cat "$part.$runs"
exit 2
"""
_PYTEST = """\
tests/kernel/test_a.py ..F.
E  AssertionError: assert 1 == 2
=========================== short test summary info ============================
FAILED tests/kernel/test_a.py::test_one[ext4] - AssertionError: assert 1 == 2
ERROR tests/kernel/test_a.py::test_two - OSError: no
===== 1 failed, 6 passed, 1 error in 3.00s =====
"""
_ANSIBLE = 'TASK [freeze] ***\nfatal: [host1]: FAILED! => {"msg": "no"}\nPLAY RECAP ***\n'


def chain(
    folder: Path, fails: dict[str, str], *parts: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run these parts; ``fails``: what is said in ``PART.RUN`` of each run that fails."""
    make = folder / "make"
    make.write_text(_MAKE.replace(">>calls", f">>{folder}/calls"))
    make.chmod(0o755)
    for name, said in fails.items():
        (folder / name).write_text(said)
    done = subprocess.run(
        [ROOT / "tests" / "tools" / "chain.sh", *parts],
        env={**os.environ, "MAKE": str(make), "QUIESCE_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    calls = [call.split(" ", 1)[1] for call in (folder / "calls").read_text().splitlines()]
    return done, calls


def test_what_passes_at_once_needs_no_more_words(tmp_path: Path) -> None:
    done, calls = chain(tmp_path, {}, "unit", "kernel")
    assert (done.returncode, calls) == (0, ["unit", "kernel"])
    assert "all 2 parts passed" in done.stdout
    assert "NOT AT ONCE" not in done.stdout


@pytest.mark.parametrize(
    ("part", "said", "named", "again"),
    [
        (
            "kernel",
            _PYTEST,
            [
                "kernel: ERROR tests/kernel/test_a.py::test_two",
                "kernel: FAILED tests/kernel/test_a.py::test_one[ext4]",
            ],
            "kernel ARGS=--last-failed",
        ),
        ("fleet", _ANSIBLE, ['fleet: fatal: [host1]: FAILED! => {"msg": "no"}'], "fleet"),
        (
            "torture",
            "Killed\n",
            ["torture: no test by name; what it had to say stands above"],
            "torture ARGS=--last-failed",
        ),
    ],
)
def test_what_passes_the_second_time_is_named_last(
    tmp_path: Path, part: str, said: str, named: list[str], again: str
) -> None:
    done, calls = chain(tmp_path, {f"{part}.1": said}, "unit", part, "lint")
    assert (done.returncode, calls) == (0, ["unit", part, "lint", again])
    *_before, first, second = done.stdout.splitlines()[: -len(named)]
    assert first.startswith(f"!!!!! NOT AT ONCE: 1 of 3 parts failed at first ({part}), and passed")
    assert second.startswith(f"!!!!! Each of these {len(named)} is a defect")
    assert done.stdout.splitlines()[-len(named) :] == named


def test_several_parts_are_counted_together(tmp_path: Path) -> None:
    """Also one that ran beside the others."""
    fails = {"vm.1": _ANSIBLE, "kernel.1": _PYTEST}
    done, calls = chain(tmp_path, fails, "vm+unit", "kernel")
    assert done.returncode == 0
    assert calls[-2:] == ["vm", "kernel ARGS=--last-failed"]
    assert "NOT AT ONCE: 2 of 3 parts failed at first (vm kernel)" in done.stdout
    assert "Each of these 3 is a defect" in done.stdout


@pytest.mark.parametrize(
    ("fails", "calls", "said"),
    [
        # What depends on no clock is not repeated.
        ({"unit.1": _PYTEST}, ["unit"], "make test: FAILED in 'unit'"),
        (
            {"kernel.1": _PYTEST, "kernel.2": _PYTEST},
            ["unit", "kernel", "lint", "kernel ARGS=--last-failed"],
            "make test: FAILED twice in 'kernel'",
        ),
    ],
)
def test_what_fails_is_a_failure(
    tmp_path: Path, fails: dict[str, str], calls: list[str], said: str
) -> None:
    done, called = chain(tmp_path, fails, "unit", "kernel", "lint")
    assert done.returncode == 1
    assert called == calls
    assert said in done.stdout.splitlines()[-1]
    assert "passed in" not in done.stdout.rpartition("=====")[2]
