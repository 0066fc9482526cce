# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fsfreeze_run: commands in the middle of a freeze."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import Filesystem, Lab
from tests.kernel.modules import Failed, arguments_of, call, environment, freeze, state, thaw
from tests.kernel.processes import of_lease, wait_for


def run(filesystem: Filesystem, *commands: list[Any], **options):
    return call("fsfreeze_run", path=[filesystem], commands=list(commands), **options)


def test_commands_run_while_frozen(filesystem: Filesystem, tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = "import os, sys, time; time.sleep(0.2); print(os.getcwd(), os.environ['COLOUR'])"
    answer = run(
        filesystem,
        ["python3", "-c", program],
        ["cp", "--reflink=always", filesystem.image, f"{filesystem.image}.copy"],
        ["touch", told],
        environment={"COLOUR": "red"},
        chdir=tmp_path,
        lease="run",
    )
    assert answer["changed"]
    assert answer["held"] is True
    assert answer["thawed_by"] == "request"
    assert answer["lease"]["name"] == "run"
    assert answer["frozen_seconds"] > 0.2
    (member,) = answer["filesystems"]
    assert (member["before"], member["state"]) == ("thawed", "thawed")
    assert [result["rc"] for result in answer["results"]] == [0, 0, 0]
    first = answer["results"][0]
    assert first["stdout"] == f"{tmp_path} red\n"
    assert first["start"] < first["end"]
    assert first["delta"].startswith("0:00:00.")
    assert os.path.isabs(first["argv"][0])
    assert told.exists()
    assert state(filesystem) == "thawed"


def test_commands_come_before_other_processes(filesystem: Filesystem) -> None:
    priority = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    script = 'python3 -c "$1"; exec python3 -c "$1"'
    answer = run(filesystem, ["python3", "-c", priority], ["sh", "-c", script, "sh", priority])
    assert [each["stdout"] for each in answer["results"]] == ["-20\n", "0\n-20\n"]


def test_check_mode_runs_nothing(filesystem: Filesystem, tmp_path: Path) -> None:
    answer = run(filesystem, ["touch", tmp_path / "ran"], check=True)
    assert answer["changed"]
    assert not (tmp_path / "ran").exists()
    assert state(filesystem) == "thawed"


def test_creates_and_removes(filesystem: Filesystem, tmp_path: Path) -> None:
    done = tmp_path / "done"
    for check in (True, False):
        assert run(filesystem, ["touch", done], creates=done, check=check)["changed"]
    assert not run(filesystem, ["false"], creates=tmp_path / "don*")["changed"]
    assert not run(filesystem, ["false"], removes=tmp_path / "absent")["changed"]
    assert run(filesystem, ["rm", done], removes="done", chdir=tmp_path)["changed"]


@pytest.mark.parametrize(
    ("commands", "sentence", "ran"),
    [
        ([["false"], ["true"]], "rc 1", 1),
        ([["true"], ["sh", "-c", "echo bad >&2; exit 7"]], "rc 7", 2),
        ([["sh", "-c", "kill -9 $$"]], "rc -9", 1),
        ([["/no/such/program"]], "not there", 0),
        ([["no-such-program"]], "not there", 0),
        ([["/etc/passwd"]], "not there, or not executable", 0),
        ([], "commands is empty", 0),
        ([[]], "a command is empty", 0),
    ],
)
def test_failing_commands(lab: Lab, commands: list[Any], sentence: str, ran: int) -> None:
    with lab.filesystem("xfs") as one:
        with pytest.raises(Failed, match=sentence) as failed:
            run(one, *commands)
        assert len(failed.value.result.get("results", [])) == ran
        assert state(one) == "thawed"


def test_command_that_outlasts_the_deadline(filesystem: Filesystem) -> None:
    began = time.monotonic()
    with pytest.raises(Failed, match="deadline") as failed:
        run(filesystem, ["sh", "-c", "echo begun; sleep 61"], ["true"], timeout=1)
    assert time.monotonic() - began < 3
    result = failed.value.result
    assert result["held"] is False
    assert result["thawed_by"] == "deadline"
    assert result["results"][0]["rc"] == -9
    assert result["results"][0]["stdout"] == "begun\n"
    assert len(result["results"]) == 1
    assert state(filesystem) == "thawed"
    assert not subprocess.run(["pgrep", "-f", "sleep 61"], check=False, capture_output=True).stdout


def test_command_that_writes_to_what_is_frozen(filesystem: Filesystem) -> None:
    with pytest.raises(Failed, match="deadline") as failed:
        run(filesystem, ["touch", filesystem.mountpoint / "x"], timeout=1)
    assert failed.value.result["held"] is False
    assert state(filesystem) == "thawed"


def test_thawed_by_a_stranger_meanwhile(filesystem: Filesystem) -> None:
    with pytest.raises(Failed, match="not held") as failed:
        run(filesystem, ["fsfreeze", "-u", filesystem.mountpoint])
    assert failed.value.result["held"] is False
    assert failed.value.result["thawed_by"] == "other"


def test_task_killed_meanwhile(filesystem: Filesystem) -> None:
    options = {"path": [filesystem], "commands": [["sleep", "62"]], "lease": "killed"}
    task = subprocess.Popen(
        arguments_of("fsfreeze_run", False, options), env=environment(), stdout=subprocess.DEVNULL
    )
    try:
        wait_for(
            lambda: subprocess.run(["pgrep", "-f", "sleep 62"], check=False).returncode == 0, 10
        )
    finally:
        task.send_signal(signal.SIGKILL)
        task.wait()
    wait_for(lambda: not of_lease("killed"), 1)
    assert state(filesystem) == "thawed"
    assert subprocess.run(["pgrep", "-f", "sleep 62"], check=False).returncode == 1


def test_guard_stopped_meanwhile(filesystem: Filesystem) -> None:
    """It does not answer, and there is no deadline: it is killed, and its second process thaws."""
    find = 's/.*"guard_pid": \\([0-9]*\\).*/\\1/p'
    stop = f"kill -STOP $(sed -n '{find}' /run/quiesce/lease-run/record)"
    with pytest.raises(Failed, match="not held") as caught:
        run(filesystem, ["sh", "-c", stop], lease="run", timeout=0)
    result = caught.value.result
    assert (result["held"], result["thawed_by"]) == (False, "guard_lost")
    assert [each["rc"] for each in result["results"]] == [0]
    assert [each["state"] for each in result["filesystems"]] == ["thawed"]
    assert state(filesystem) == "thawed"
    wait_for(lambda: not of_lease("run"), 5)


def test_frozen_already(filesystem: Filesystem, tmp_path: Path) -> None:
    freeze(filesystem, lease="other")
    try:
        for lease in ("", "mine", "other"):
            with pytest.raises(Failed, match="frozen"):
                run(filesystem, ["touch", tmp_path / "ran"], lease=lease)
        assert not (tmp_path / "ran").exists()
        assert state(filesystem) == "frozen"
    finally:
        assert thaw(filesystem, lease="other")["held"] is True


def test_much_output_and_a_child_that_keeps_the_pipe(lab: Lab) -> None:
    with lab.filesystem("ext4") as one:
        began = time.monotonic()
        answer = run(one, ["sh", "-c", "yes | head -c 3000000; sleep 5 & echo done >&2"])
        assert time.monotonic() - began < 4
        assert len(answer["results"][0]["stdout"]) == 3000000
        assert answer["results"][0]["stderr"] == "done\n"
