# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook under ansible-runner: alone, and as the slices of one job, as AWX runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import Host
from tests.hosts.ansible import environment
from tests.hosts.fleet import Plan, open_fleet
from tests.kernel.lab import Lab, run
from tests.kernel.systemd_host import machine_suite

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.prefix, "bin")
DATA = "/srv"
SECONDS = 600
NUMBER = 6
SLICES = 3
VARIABLES = {
    "consistent_snapshot_paths": [DATA],
    "consistent_snapshot_provider": "command",
    "consistent_snapshot_command": ["true"],
}


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> Iterator[list[Host]]:
    planned = [
        Plan(f"host{each}", machine_suite(), {DATA: "ext4"}) for each in range(1, NUMBER + 1)
    ]
    with open_fleet(lab, planned) as started:
        yield started


def private_data(folder: Path, hosts: Sequence[Host]) -> Path:
    """The folder that ansible-runner, and AWX, gives to a job."""
    settings = environment(folder)
    for name, content in {
        "inventory/hosts.json": {"all": {"hosts": {each.name: each.variables() for each in hosts}}},
        "env/extravars": VARIABLES,
        "env/envvars": {name: settings[name] for name in settings if name.startswith("ANSIBLE_")},
        "project/snapshot.yml": [
            {"name": "Snapshots", "ansible.builtin.import_playbook": "quiesce.storage.snapshot"}
        ],
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    argv = [str(BIN / "ansible-runner"), "run", str(folder), "-p", "snapshot.yml", "-i", "job"]
    return subprocess.Popen(
        [*argv, *arguments],
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(job: subprocess.Popen[str]) -> str:
    try:
        return job.communicate(timeout=SECONDS)[0]
    finally:
        job.kill()
        job.wait()


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """What a job's events say of each host, as a merge of several jobs reads it."""
    found = {}
    for file in (folder / "artifacts/job/job_events").glob("*.json"):
        data = json.loads(file.read_text()).get("event_data", {})
        facts = (data.get("res") or {}).get("ansible_facts") or {}
        if "consistent_snapshot_result" in facts:
            found[data["host"]] = facts["consistent_snapshot_result"]
    return found


def test_the_definition_is_understood(tmp_path: Path) -> None:
    definition = "execution-environment.yml"
    galaxy = (str(BIN / "ansible-galaxy"), "collection", "build", str(REPOSITORY))
    run(*galaxy, "--output-path", tmp_path)
    (tmp_path / definition).write_bytes((REPOSITORY / definition).read_bytes())
    # It resolves what it copies from the folder that it runs in.
    done = subprocess.run(
        [str(BIN / "ansible-builder"), "create", "--context", "context"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    context = tmp_path / "context"
    assert "ansible-galaxy collection install" in (context / "Containerfile").read_text()
    (archive,) = (context / "_build/collections").glob("*.tar.gz")
    assert f"collections/{archive.name}" in (context / "_build/requirements.yml").read_text()


def test_one_job(hosts: list[Host], tmp_path: Path) -> None:
    folder = private_data(tmp_path / "job", hosts[:2])
    job = start(folder)
    said = finish(job)
    assert job.returncode == 0, said
    assert (folder / "artifacts/job/rc").read_text() == "0"
    told = results(folder)
    assert set(told) == {each.name for each in hosts[:2]}
    assert all(each["held"] for each in told.values())


def test_a_host_that_fails_is_told_of(hosts: list[Host], tmp_path: Path) -> None:
    folder = private_data(tmp_path / "job", hosts[:2])
    variables = {**VARIABLES, "consistent_snapshot_command": ["test", "-e", "/srv/only-here"]}
    (folder / "env/extravars").write_text(json.dumps(variables))
    hosts[0].put("/srv/only-here", "")
    try:
        job = start(folder)
        said = finish(job)
    finally:
        hosts[0].outside("/srv/only-here").unlink()
    assert job.returncode == 2, said
    told = results(folder)
    assert [told[each.name]["trusted"] for each in hosts[:2]] == [True, False]
    assert hosts[1].frozen() == []


def test_slices_side_by_side(hosts: list[Host], tmp_path: Path) -> None:
    # AWX gives each slice every n-th host.
    slices = [hosts[number::SLICES] for number in range(SLICES)]
    folders = [private_data(tmp_path / f"slice{number}", hosts) for number in range(SLICES)]
    jobs = [
        start(folder, "--limit", ",".join(each.name for each in members))
        for folder, members in zip(folders, slices, strict=True)
    ]
    said = [finish(job) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * SLICES, said
    merged: dict[str, dict[str, Any]] = {}
    for folder, members in zip(folders, slices, strict=True):
        told = results(folder)
        assert set(told) == {each.name for each in members}
        assert not merged.keys() & told.keys()
        merged.update(told)
    assert set(merged) == {each.name for each in hosts}
    assert all(each["held"] and each["trusted"] for each in merged.values())
