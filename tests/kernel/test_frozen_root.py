# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible gets through to hosts whose own /, /tmp, /var, ... are frozen, and says where it cannot.

The hosts are real in what matters here: they have root filesystems of their own, and Ansible comes
by ssh. Every lease has a deadline, and every host is thawed from outside if all else fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import PASSWORD, USER, Host, open_host
from tests.hosts.ansible import environment
from tests.hosts.controller import install_controller
from tests.kernel.lab import Lab

REPOSITORY = Path(__file__).parents[2]
SEPARATE = ("/tmp", "/var", "/var/tmp", "/home", "/root")
EACH_AND_ALL = [[path] for path in ("/", *SEPARATE)] + [["/", *SEPARATE]]
TIMEOUT = 30
# From the freeze to the thaw with a look in between; a task that blocks takes until the deadline.
SOON = 10

NEW_CONNECTIONS = {"ansible_ssh_args": "-o ControlMaster=no -o ControlPath=none"}
SU = {"ansible_become_method": "su", "ansible_become_password": PASSWORD}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "root, pipelining": ("root", {"ansible_pipelining": True}),
    "root, no pipelining": ("root", {"ansible_pipelining": False}),
    "sudo, pipelining": (USER, {"ansible_pipelining": True}),
    "sudo, no pipelining, new connections": (
        USER,
        {"ansible_pipelining": False, **NEW_CONNECTIONS},
    ),
    "su, which cannot pipeline": (USER, SU),
}


@pytest.fixture(scope="module")
def whole(lab: Lab) -> Iterator[Host]:
    """A host with all of it on one filesystem."""
    with open_host(lab) as host:
        yield host


@pytest.fixture(scope="module")
def split(lab: Lab) -> Iterator[Host]:
    """A host with filesystems for all that Ansible might write to."""
    with open_host(lab, separate=SEPARATE) as host:
        yield host


@pytest.fixture(autouse=True)
def thawed(whole: Host, split: Host) -> Iterator[None]:
    for host in (whole, split):
        host.arm_thaw(120)
    yield
    for host in (whole, split):
        host.thaw()


def task(module: str, register: str | None = None, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = {f"quiesce.storage.{module}": options}
    if register:
        made["register"] = register
    return made


def claim(*conditions: str) -> dict[str, Any]:
    """A task that fails, and shows what it saw, unless all of this is true."""
    return {"ansible.builtin.assert": {"that": list(conditions), "quiet": True}}


def round_trip(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Freeze, look, thaw: tasks that fail unless all of it went well and quickly."""
    named = {"path": list(paths), "lease": "trip"}
    return [
        task("fsfreeze", "freeze", state="frozen", timeout=TIMEOUT, **named),
        task("fsfreeze_info", "info", path=list(paths)),
        task("fsfreeze", "thaw", state="thawed", **named),
        claim(
            "freeze is changed",
            f"freeze.filesystems | length == {len(paths)}",
            f"info.filesystems | map(attribute='state') | list == {len(paths)} * ['frozen']",
            "info.filesystems[0].lease.name == 'trip'",
            "thaw is changed",
            "thaw.held",
            "thaw.thawed_by == 'request'",
            f"thaw.frozen_seconds < {SOON}",
        ),
    ]


class Answer:
    """What an Ansible command did: ``rc``, and ``said``, all of its output."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            argv,
            env=None if environment is None else dict(environment),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.rc = done.returncode
        self.said = done.stdout
        self.sentence = " ".join(done.stdout.split())

    def well(self) -> Answer:
        assert self.rc == 0, self.said
        return self


class Controller:
    """Ansible on this machine; its files are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = environment(folder)

    def play(
        self,
        hosts: Mapping[str, Mapping[str, Any]],
        tasks: Mapping[str, Sequence[Mapping[str, Any]]],
        *arguments: str,
        **settings: str,
    ) -> Answer:
        """Run a playbook; ``hosts`` says how each is reached, ``tasks`` what is done on it."""
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        playbook = self.folder / "playbook.yml"
        plays = [
            {"hosts": name, "gather_facts": False, "tasks": list(each)}
            for name, each in tasks.items()
        ]
        playbook.write_text(json.dumps(plays))
        argv = ["playbook", "-i", str(inventory), str(playbook), *arguments]
        return self.run(*argv, **settings)

    def run(self, *argv: str, **settings: str) -> Answer:
        """Run ``playbook …`` or ``adhoc …``."""
        environment = {**self.environment, **settings}
        return Answer([sys.executable, "-m", "ansible", *argv], environment)


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


@pytest.fixture(scope="module")
def local(whole: Host, split: Host) -> dict[str, list[str]]:
    """Commands that run Ansible inside of the hosts."""
    return {host.name: install_controller(host) for host in (whole, split)}


def sets_of(host: Host) -> list[list[str]]:
    return EACH_AND_ALL if len(host.paths) > 1 else [["/"]]


def nothing_left(host: Host) -> None:
    """Nothing is frozen any more, and no file of Ansible's lies about."""
    assert host.frozen() == []
    for folder in ("/dev/shm", "/run"):
        names = os.listdir(host.outside(folder))
        assert not [name for name in names if "ansible" in name.lower()], folder


# --- Over ssh ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_over_ssh(way: str, controller: Controller, whole: Host, split: Host):
    user, how = WAYS[way]
    hosts = {host.name: host.variables(user, **how) for host in (whole, split)}
    tasks = {
        host.name: [step for paths in sets_of(host) for step in round_trip(paths)]
        for host in (whole, split)
    }
    controller.play(hosts, tasks).well()
    nothing_left(whole)
    nothing_left(split)


def test_commands_of_their_own_over_ssh(controller: Controller, whole: Host):
    (controller.folder / "inventory.json").write_text(
        json.dumps({"all": {"hosts": {"one": whole.variables(USER, **NEW_CONNECTIONS)}}})
    )
    argv = ["adhoc", "-i", str(controller.folder / "inventory.json"), "one", "-m"]
    fsfreeze, info = "quiesce.storage.fsfreeze", "quiesce.storage.fsfreeze_info"
    options = f"path=/ state=frozen timeout={TIMEOUT} lease=adhoc"
    controller.run(*argv, fsfreeze, "-a", options).well()
    assert whole.frozen() == ["/"]
    assert '"state": "frozen"' in controller.run(*argv, info, "-a", "path=/").well().said
    thaw = controller.run(*argv, fsfreeze, "-a", "path=/ state=thawed lease=adhoc").well()
    assert '"held": true' in thaw.said
    nothing_left(whole)


@pytest.mark.parametrize("says", ["echo Welcome to db1", "printf '\\033]0;db1\\007'"])
def test_a_shell_that_says_something(says: str, controller: Controller, whole: Host):
    """With the interpreter known, the thaw needs no module, and its answer stands alone."""
    profile = whole.outside("/root/.bashrc")
    before = profile.read_text() if profile.exists() else ""
    profile.write_text(f"{says}\n{before}")
    try:
        hosts = {"one": whole.variables(ansible_python_interpreter="/usr/bin/python3")}
        controller.play(hosts, {"one": round_trip(["/"])}).well()
    finally:
        profile.write_text(before)
    nothing_left(whole)


def test_kept_files_are_kept_in_memory(controller: Controller, whole: Host):
    hosts = {"one": whole.variables(USER)}
    controller.play(hosts, {"one": round_trip(["/"])}, ANSIBLE_KEEP_REMOTE_FILES="1").well()
    kept = [name for name in os.listdir(whole.outside("/dev/shm")) if "ansible" in name]
    assert len(kept) >= 2
    for name in kept:
        shutil.rmtree(whole.outside(f"/dev/shm/{name}"))
    nothing_left(whole)


def test_commands_while_frozen(controller: Controller, whole: Host):
    options = {"path": "/", "timeout": TIMEOUT, "commands": [["sleep", "0.1"]]}
    steps = [
        task("fsfreeze_run", "run", **options),
        claim("run.held", "run.results[0].rc == 0", "run.frozen_seconds < 1"),
    ]
    hosts = {"one": whole.variables(USER, ansible_pipelining=False)}
    controller.play(hosts, {"one": steps}).well()
    nothing_left(whole)


def test_check_and_diff(controller: Controller, whole: Host):
    hosts = {"one": whole.variables(USER)}
    freeze = task("fsfreeze", "freeze", path="/", state="frozen", timeout=TIMEOUT)
    steps = [freeze, claim("freeze is changed", "freeze.filesystems[0].state == 'frozen'")]
    said = controller.play(hosts, {"one": steps}, "--check", "--diff").well().said
    assert "+/ (ext4 on /dev/loop" in said
    nothing_left(whole)


@contextlib.contextmanager
def full(host: Host) -> Iterator[None]:
    """Leave 8 KiB on each tmpfs of a host: enough for a small file, not for a module."""
    fillers = [host.outside(f"{folder}/filler") for folder in ("/dev/shm", "/run")]
    try:
        for filler in fillers:
            free = os.statvfs(filler.parent)
            filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 8192))
        yield
    finally:
        for filler in fillers:
            filler.unlink(missing_ok=True)


# Anything but the plainest thaw wants the module, and has to do without it here.
@pytest.mark.parametrize(
    ("lease", "more", "module"),
    [("full", {}, False), ("full", {"flush": False}, True), ("", {}, True)],
)
def test_a_thaw_without_room_for_a_module(
    lease: str, more: dict[str, Any], module: bool, controller: Controller, whole: Host
):
    hosts = {"one": whole.variables(USER)}
    options = {"path": "/", "lease": lease}
    freeze = task("fsfreeze", state="frozen", timeout=TIMEOUT, **options)
    controller.play(hosts, {"one": [freeze]}).well()
    held = "thaw.held and thaw.thawed_by == 'request'" if lease else "thaw.held is none"
    thaw = task("fsfreeze", "thaw", state="thawed", **options, **more)
    tasks = [thaw, claim("thaw is changed", held)]
    with full(whole):
        said = controller.play(hosts, {"one": tasks}).well().sentence
        assert whole.frozen() == []
    assert ("No space left on device), so the thaw was done without it" in said) == module


# --- Where the controller is the managed host -----------------------------------------------


def inside(host: Host, name: str, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Put a playbook into a host; the arguments that run it there, on a local connection."""
    path = f"/run/{name}.yml"
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    host.put(path, json.dumps([play]))
    return ["playbook", "-i", "localhost,", path]


def with_settings(command: Sequence[str], *settings: str) -> list[str]:
    """The command, with these environment variables in the host."""
    python = command.index("-m") - 1
    return [*command[:python], *settings, *command[python:]]


@pytest.mark.parametrize("kind", ["whole", "split"])
def test_local(kind: str, local: dict[str, list[str]], request: pytest.FixtureRequest):
    host: Host = request.getfixturevalue(kind)
    steps = [step for paths in sets_of(host) for step in round_trip(paths)]
    answer = Answer([*local[host.name], *inside(host, "trips", steps)]).well()
    assert "/root/.ansible will be frozen: other modules" in answer.sentence
    assert "ANSIBLE_HOME=/dev/shm/ansible TMPDIR=/dev/shm" in answer.sentence
    nothing_left(host)


def test_local_commands_of_their_own(local: dict[str, list[str]], whole: Host):
    settings = ["ANSIBLE_HOME=/dev/shm/home", "TMPDIR=/dev/shm", "PYTHONDONTWRITEBYTECODE=1"]
    command = with_settings(local[whole.name], *settings)
    freeze: dict[str, Any] = {"path": "/", "state": "frozen", "timeout": TIMEOUT, "lease": "own"}
    steps = [
        [task("fsfreeze", **freeze)],
        [task("fsfreeze_info", "info", path="/"), claim("info.filesystems[0].state == 'frozen'")],
        [task("fsfreeze", "thaw", **{**freeze, "state": "thawed"}), claim("thaw.held")],
    ]
    plays = [inside(whole, f"own{number}", each) for number, each in enumerate(steps)]
    for play in plays:
        assert "WARNING" not in Answer([*command, *play]).well().said
    shutil.rmtree(whole.outside("/dev/shm/home"))
    nothing_left(whole)


# --- What does not get through --------------------------------------------------------------


def test_without_the_action_plugins_it_is_refused(controller: Controller, whole: Host):
    """What this file tests can be told from its absence, and a task that could not end is none."""
    copy = controller.folder / "plain/ansible_collections/quiesce/storage"
    for name in ("meta", "plugins/modules", "plugins/module_utils", "plugins/doc_fragments"):
        shutil.copytree(REPOSITORY / name, copy / name)
    shutil.copy(REPOSITORY / "galaxy.yml", copy)
    freeze = task("fsfreeze", path="/", state="frozen", timeout=4, lease="blocked")
    hosts = {"one": whole.variables(USER, ansible_pipelining=True)}
    folder = str(controller.folder / "plain")
    refused = controller.play(hosts, {"one": [freeze]}, ANSIBLE_COLLECTIONS_PATH=folder)
    assert refused.rc == 2
    assert "nothing was frozen: Ansible's own files" in refused.sentence
    nothing_left(whole)


@pytest.mark.parametrize("arguments", ["-tt", "-o RequestTTY=force"])
def test_a_terminal_is_refused(arguments: str, controller: Controller, split: Host):
    hosts = {"one": split.variables(USER, ansible_ssh_extra_args=arguments)}
    freeze: dict[str, Any] = {"state": "frozen", "timeout": TIMEOUT}
    allowed = controller.play(hosts, {"one": round_trip(["/home", "/root"])})
    assert "nothing was frozen" not in allowed.well().said
    refused = controller.play(hosts, {"one": [task("fsfreeze", path=["/home", "/var"], **freeze)]})
    assert refused.rc == 2
    assert "nothing was frozen: with /var/log frozen" in refused.sentence
    assert "gets a terminal" in refused.sentence
    nothing_left(split)


def test_a_forwarded_agent_is_told(controller: Controller, split: Host):
    freeze: dict[str, Any] = {"state": "frozen", "timeout": TIMEOUT}
    hosts = {"one": split.variables(USER, ansible_ssh_extra_args="-o ForwardAgent=yes")}
    for paths, told in (["/tmp"], True), (["/var"], False):
        steps = [task("fsfreeze", path=paths, **freeze)]
        said = controller.play(hosts, {"one": steps}, "--check").well().sentence
        assert ("every new connection forwards an ssh agent" in said) is told


def test_a_log_of_ansible_is_refused(local: dict[str, list[str]], whole: Host):
    freeze = task("fsfreeze", path="/", state="frozen", timeout=TIMEOUT)
    command = with_settings(local[whole.name], "ANSIBLE_LOG_PATH=/var/log/ansible.log")
    refused = Answer([*command, *inside(whole, "logged", [freeze])])
    assert refused.rc == 2
    assert "nothing was frozen: with /var/log frozen" in refused.sentence
    assert "log_path" in refused.said
    nothing_left(whole)


@pytest.mark.parametrize("module", ["fsfreeze", "fsfreeze_info", "fsfreeze_run"])
def test_async_is_refused(module: str, controller: Controller, whole: Host):
    options: dict[str, Any] = {"path": "/"}
    if module == "fsfreeze":
        options["state"] = "frozen"
    if module == "fsfreeze_run":
        options["commands"] = [["true"]]
    steps = [{**task(module, **options), "async": 20, "poll": 1}]
    refused = controller.play({"one": whole.variables(USER)}, {"one": steps})
    assert refused.rc == 2
    assert "async is not for this action" in refused.sentence
    nothing_left(whole)
