# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The provider ``lvm`` of the role, on machines whose volumes are being written to.

The kernels of bullseye and bookworm do not let device-mapper freeze what is frozen; trixie's does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.machine import Machine
from tests.vm.roles import WRITER, Outcome, Roles

# An emulated processor takes minutes for a run of the role.
pytestmark = pytest.mark.timeout(3600)

THICK, THIN = ["/srv/ext", "/srv/log"], ["/srv/thin", "/srv/fine"]
"""Two volumes each, an ext4 and an XFS, which are written to in this order."""

# The volumes of the molecule scenario, which has the same names.
_SETUP = Path(__file__).parents[2] / "extensions" / "molecule" / "lvm" / "files" / "volumes.sh"
_NUMBER = """\
exec 2>&1
mkdir -p /run/look
mount -o "$2" "$1" /run/look && cat /run/look/number && umount /run/look
"""
_OPTIONS = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid"}


def judge(path: str, fstype: str) -> dict[str, Any]:
    """Tasks that look into the snapshot of a filesystem."""
    entry = (
        f"consistent_snapshot_result.snapshots | selectattr('source', 'equalto', '{path}') | first"
    )
    return {
        "vars": {"entry": "{{ %s }}" % entry},
        "block": [
            {
                "name": "Activate",
                "ansible.builtin.command": {"argv": "{{ item }}"},
                "loop": "{{ entry.activate }}",
                "changed_when": False,
            },
            {
                "name": "Judge",
                "quiesce.storage.snapshot_check": {"path": "{{ entry.path }}", "fstype": fstype},
            },
            {
                "name": "Judge",
                "ansible.builtin.command": {
                    "argv": ["sh", "-c", _NUMBER, "sh", "{{ entry.path }}", _OPTIONS[fstype]]
                },
                "changed_when": False,
            },
            {
                "name": "Judge",
                "ansible.builtin.command": {
                    "argv": ["lvs", "--noheadings", "-o", "lv_uuid", "{{ entry.snapshot }}"]
                },
                "register": "uuid",
                "changed_when": False,
                "failed_when": "uuid.stdout | trim != entry.identity | trim",
            },
            {
                "name": "Deactivate",
                "ansible.builtin.command": {"argv": "{{ item }}"},
                "loop": "{{ entry.deactivate }}",
                "changed_when": False,
            },
        ],
    }


JUDGES = {
    "/srv/ext": judge("/dev/vg/ext", "ext4"),
    "/srv/log": judge("/dev/vg/log", "xfs"),
    "/srv/thin": judge("/dev/vg/thin", "ext4"),
    "/srv/fine": judge("/dev/vg/fine", "xfs"),
}


def volumes(vm: Machine) -> list[str]:
    """All volumes, with their tags."""
    said = vm.run("lvs", "-a", "--noheadings", "--separator", " ", "-o", "lv_name,origin,lv_tags")
    return sorted(" ".join(line.split()) for line in said.splitlines())


def devices(vm: Machine) -> list[str]:
    """What device-mapper has, whatever LVM knows of it, and what of it is suspended."""
    return sorted(vm.run("dmsetup", "info", "-c", "--noheadings", "-o", "name,suspended").split())


def nests(vm: Machine) -> bool:
    return vm.suite == "trixie"


@pytest.fixture(scope="module")
def ready(machine: Machine) -> Machine:
    """Give a machine with volumes that are written to."""
    machine.restore()
    machine.run("sh", "-c", _SETUP.read_text(), timeout=600)
    machine.run("tee", "/run/writer.py", input=WRITER)
    for paths in (THICK, THIN):
        words = " ".join(paths)
        machine.run("sh", "-c", f"python3 /run/writer.py {words} >/dev/null 2>&1 &")
    return machine


@pytest.fixture
def roles(ready: Machine, tmp_path: Path) -> Iterator[Roles]:
    """Give the role; what there was of volumes is there afterwards, and nothing else."""
    before = volumes(ready), devices(ready)
    yield Roles(ready, tmp_path, provider="lvm", lvm_size="24M", timeout=300)
    try:
        assert ready.frozen() == []
        kept = ready.run("lvs", "--noheadings", "-o", "lv_path", "@quiesce").split()
        if kept:
            ready.run("lvremove", "-q", "-y", *kept, timeout=60)
        assert (volumes(ready), devices(ready)) == before
    finally:
        ready.thaw()


def assert_good(outcome: Outcome, vm: Machine, count: int) -> None:
    """A run has taken clean snapshots, of one instant where that can be."""
    assert outcome.error == ""
    result = outcome.result
    assert len(result["snapshots"]) == count
    assert result["trusted"] is True
    assert result["held"] is (True if nests(vm) else None)
    assert result["instant"] == ("one" if nests(vm) or count == 1 else "each")
    checks, numbers = outcome.judged[::3], [int(each["stdout"]) for each in outcome.judged[1::3]]
    assert [each["clean"] for each in checks] == [True] * count, checks
    assert all(len(each["stdout"].strip()) == 38 for each in outcome.judged[2::3])
    if count > 1:
        # One after the other is counted up: of one instant, the first is never behind.
        assert (numbers[0] - numbers[1] in (0, 1)) is nests(vm), numbers


@pytest.mark.parametrize("paths", [THICK, THIN], ids=["thick", "thin"])
def test_two_volumes(roles: Roles, paths: list[str]):
    vm = roles.vm
    before = volumes(vm)
    predicted = roles.run("--check", paths=paths, name="two")
    assert (predicted.error, predicted.changed) == ("", True)
    assert volumes(vm) == before
    taken = roles.run(judge=[JUDGES[path] for path in paths], paths=paths, name="two")
    assert_good(taken, vm, 2)
    there = volumes(vm)
    assert len(there) == len(before) + 2
    again = roles.run(paths=paths, name="two")
    assert (again.error, again.changed) == ("", False)
    assert volumes(vm) == there
    known = ("name", "held", "instant")
    assert [again.result[key] for key in known] == [taken.result[key] for key in known]
    keys = ("source", "snapshot", "size", "path")
    assert [[each[key] for key in keys] for each in again.result["snapshots"]] == [
        [each[key] for key in keys] for each in taken.result["snapshots"]
    ]
    # A part of it is not it, and neither is one of other volumes.
    assert "is taken" in roles.run(paths=["/srv/ext", "/srv/fine"], name="two").error
    for each in taken.result["snapshots"]:
        vm.run("lvremove", "-q", "-y", each["snapshot"], timeout=60)
    assert volumes(vm) == before


@pytest.mark.parametrize("path", [THICK[1], THIN[0]], ids=["thick", "thin"])
def test_one_volume(roles: Roles, path: str):
    taken = roles.run(judge=[JUDGES[path]], paths=[path], name="a b:c", lvm_instant="one")
    assert_good(taken, roles.vm, 1)
    assert taken.result["snapshots"][0]["snapshot"].endswith("-a_b_c")
    # Another name that LVM would spell the same is another.
    assert "is taken" in roles.run(paths=[path], name="a:b c").error


def test_a_snapshot_that_has_run_out_of_room(roles: Roles):
    assert not roles.run(paths=["/srv/ext"], name="full", lvm_size="8M").error
    much = "dd if=/dev/urandom of=/srv/ext/much bs=1M count=20 conv=fsync; rm /srv/ext/much"
    roles.vm.run("sh", "-c", much, timeout=120)
    again = roles.run(paths=["/srv/ext"], name="full")
    assert "has run out of room, and holds nothing any more" in again.error
    assert not again.result["trusted"]


def test_refused(roles: Roles):
    vm = roles.vm
    vm.run("lvcreate", "-q", "-y", "-L", "4M", "-n", "ext-taken", "vg")
    vm.run("lvcreate", "-q", "-y", "-s", "-L", "12M", "-n", "copy", "vg/ext")
    vm.run("sh", "-c", "mkdir -p /srv/copy && mount -o ro,noload /dev/vg/copy /srv/copy")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"paths": ["/data"]}, "/data (ext4 on /dev/vdb) is on no logical volume"),
        ({"lvm_size": "2T"}, "bytes of free space, less than the snapshots want"),
        ({"lvm_size": "30%VG", "paths": THICK}, "bytes of free space, less than the snapshots"),
        ({"lvm_size": "much"}, 'consistent_snapshot_lvm_size is "much"'),
        ({"name": "taken"}, "vg/ext-taken exists, and its tags do not say"),
        ({"name": "long-" * 25}, "a snapshot whose name is too long for LVM (vg/ext-long-"),
        ({"name": "x_tdata"}, "a snapshot whose name LVM keeps for itself (vg/ext-x_tdata)"),
        ({"paths": ["/srv/copy"]}, "is on a snapshot itself"),
        ({"paths": THIN, "lvm_pool_limit": 1}, "the thin pool vg/pool uses"),
    ]
    if not nests(vm):
        cases.append(({"paths": THICK, "lvm_instant": "one"}, "this kernel cannot give that to 2"))
    try:
        there = volumes(vm)
        given = [{"paths": THICK[:1], "name": "refused", **variables} for variables, _why in cases]
        outcomes = roles.all(given)
        assert volumes(vm) == there
        for (variables, why), outcome in zip(cases, outcomes, strict=True):
            assert why in outcome.error, variables
            assert outcome.result["snapshots"] == []
            assert "No snapshot was taken" in outcome.error
    finally:
        vm.run("umount", "/srv/copy")
        vm.run("lvremove", "-q", "-y", "vg/copy", "vg/ext-taken", timeout=60)


@pytest.mark.parametrize("paths", [THICK, THIN], ids=["thick", "thin"])
def test_the_second_fails(roles: Roles, tmp_path: Path, paths: list[str]):
    """Somebody takes the name in the last moment: the first is removed, and theirs stays."""
    vm = roles.vm
    second = Path(paths[1]).name
    theirs = ["lvcreate", "-q", "-y", "-L", "4M", "-n", f"{second}-half", "vg"]
    before = tmp_path / "before.yml"
    before.write_text(json.dumps([{"ansible.builtin.command": {"argv": theirs}}]))
    try:
        failed = roles.run(paths=paths, name="half", before=str(before))
        assert "No snapshot of that name was kept" in failed.error
        assert (failed.result["trusted"], failed.result["snapshots"]) == (False, [])
        assert [line for line in volumes(vm) if "half" in line] == [f"{second}-half"]
    finally:
        vm.run("lvremove", "-q", "-y", f"vg/{second}-half", timeout=60)


@pytest.mark.parametrize("paths", [THICK, THIN], ids=["thick", "thin"])
def test_the_deadline_passes(roles: Roles, tmp_path: Path, paths: list[str]):
    """Another command of LVM holds the group: lvcreate waits for it, longer than it may."""
    vm = roles.vm
    holding = "flock -o /run/lock/lvm/V_vg sleep 90 >/dev/null 2>&1 & echo $! >/run/holding"
    letting = "(sleep 3; kill $(cat /run/holding)) >/dev/null 2>&1 &"
    files = []
    for name, script in (("before", holding), ("after", letting)):
        files.append(tmp_path / f"{name}.yml")
        command = {"ansible.builtin.command": {"argv": ["sh", "-c", script]}}
        files[-1].write_text(json.dumps([command]))
    before, after = map(str, files)
    late = roles.run(paths=paths, name="late", before=before, after=after, timeout=8)
    assert "No snapshot of that name was kept" in late.error
    assert (late.result["trusted"], late.result["snapshots"]) == (False, [])
    assert late.result["thawed_by"] == ("deadline" if nests(vm) else None)
    assert [line for line in volumes(vm) if "late" in line] == []


def test_a_freeze_that_should_not_have_been(roles: Roles):
    """On an old kernel, that makes the mess that the provider never makes by itself; it goes."""
    vm = roles.vm
    forced = json.dumps({"__consistent_snapshot_lvm_freeze": True})
    failed = roles.run("-e", forced, paths=THICK, name="forced")
    if nests(vm):
        assert failed.error == ""
        return
    assert "Device or resource busy" in json.dumps(failed.result) + failed.error
    assert "No snapshot of that name was kept" in failed.error
    assert [line for line in volumes(vm) if "forced" in line] == []
    assert [name for name in devices(vm) if "-real:" in name] == []
    assert_good(roles.run(judge=[JUDGES["/srv/ext"]], paths=THICK[:1], name="forced"), vm, 1)


def test_lvm_s_own_files_are_on_what_is_frozen(roles: Roles):
    """LVM keeps copies of what it knows in /etc/lvm: nothing waits for that while it is frozen."""
    vm = roles.vm
    script = "cp -a /etc/lvm/. /srv/ext/ && mount --bind /srv/ext /etc/lvm"
    vm.run("sh", "-c", script)
    try:
        taken = roles.run(judge=[JUDGES["/srv/ext"]], paths=THICK[:1], name="own")
        assert_good(taken, vm, 1)
        assert "ext-own" in vm.run("cat", "/etc/lvm/backup/vg")
    finally:
        vm.run("umount", "/etc/lvm")
