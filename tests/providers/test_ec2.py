# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The provider ec2: a host whose filesystems are really frozen, and EC2 as moto has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.plays import Play, playing
from tests.faults.scene import PATHS, Scene
from tests.hosts import USER
from tests.kernel.processes import command, wait_for

from .amazon import REGION, Amazon

NAME = "before_upgrade"
TASKS = Path(__file__).with_name("tasks")
ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "consistent_snapshot"
PAGE = ROOT / "docs" / "provider_ec2.md"
DO_NOT_TRUST = f"Do not trust the snapshot {NAME}"
NOTHING_KEPT = "No snapshot of that name was kept"
# Seconds: nothing is thawed by a deadline, however busy this machine is.
LONG = 200
# A deadline that comes, and not before a call has been made.
SHORT = 25


@contextmanager
def taking(stage: Scene, amazon: Amazon, *volumes: str, **more: Any) -> Iterator[Play]:
    """Run the role for these volumes; the calls before it are forgotten."""
    amazon.calls.clear()
    named: dict[str, Any] = {
        "provider": "ec2",
        "name": NAME,
        "timeout": LONG,
        "ec2_volumes": list(volumes),
    }
    named |= {"ec2_region": REGION, "ec2_endpoint": amazon.url, "tasks": "", **more}
    with stage.role(**named) as play:
        yield play


def result(play: Play) -> dict[str, Any]:
    """Wait for what the role says of its run."""
    facts = play.wait("ok", "Set the result")["result"]["ansible_facts"]
    told: dict[str, Any] = facts["consistent_snapshot_result"]
    return told


def took_once(amazon: Amazon) -> dict[str, str]:
    """One call took snapshots, while all was frozen; return its parameters."""
    (call,) = amazon.taking()
    assert call.action == "CreateSnapshots"
    assert sorted(call.frozen) == sorted(PATHS)
    return dict(call.parameters)


def never_frozen(stage: Scene, play: Play, amazon: Amazon) -> None:
    """Nothing was frozen, and no snapshot was asked for."""
    assert play.events("start", "Freeze") == []
    assert amazon.taking() == []
    assert not stage.host.frozen()


# --- Good ----------------------------------------------------------------------------------


def test_several_volumes_are_of_one_call(stage: Scene, amazon: Amazon):
    instance, (first, second, other) = amazon.instance(3)
    with taking(stage, amazon, first, second, ec2_tags={"team": "db"}) as play:
        assert play.finish() == 0, play.said
        told = result(play)
    assert (told["held"], told["trusted"]) == (True, True)
    assert [each["source"] for each in told["snapshots"]] == [first, second]
    assert [each["size"] for each in told["snapshots"]] == [3 << 30] * 2
    parameters = took_once(amazon)
    assert parameters["InstanceSpecification.InstanceId"] == instance
    assert parameters["InstanceSpecification.ExcludeBootVolume"] == "true"
    assert parameters["InstanceSpecification.ExcludeDataVolumeId.1"] == other
    # moto takes one of a volume that is left out, too: it is as one attached at the last moment.
    there = amazon.snapshots(NAME)
    assert set(there) == {first, second}
    for tags in there.values():
        assert tags["quiesce:host"] == stage.host.name
        assert (tags["quiesce:held"], tags["team"], tags["Name"]) == ("true", "db", NAME)
        assert float(tags["quiesce:frozen_seconds"]) == pytest.approx(told["frozen_seconds"])
    # Asked for permission before, and told of the proof after the freeze.
    asked = [call for call in amazon.calls if call.parameters.get("DryRun") == "true"]
    assert [(call.action, list(call.frozen)) for call in asked] == [("CreateSnapshots", [])]
    assert all(not call.frozen for call in amazon.calls if call.action == "CreateTags")

    with taking(stage, amazon, first, second) as play:
        assert play.finish() == 0, play.said
        assert " changed=0 " in play.said
        again = result(play)
        never_frozen(stage, play, amazon)
    same = ("held", "trusted", "frozen_seconds")
    assert [again[key] for key in same] == [told[key] for key in same]
    ids = [[each["snapshot"] for each in run["snapshots"]] for run in (told, again)]
    assert sorted(ids[0]) == sorted(ids[1])


def test_one_volume(stage: Scene, amazon: Amazon):
    """Root of the host by sudo, and not root here."""
    instance, (volume,) = amazon.instance(1)
    stage.variables |= {"ansible_user": USER, "ansible_become": True}
    with taking(stage, amazon, volume, ec2_instance=instance, ec2_wait=True) as play:
        assert play.finish() == 0, play.said
        (snapshot,) = result(play)["snapshots"]
    assert took_once(amazon)["InstanceSpecification.InstanceId"] == instance
    # Nobody waits for it while it is frozen.
    meanwhile = [call.action for call in amazon.calls if call.frozen]
    assert meanwhile == ["DescribeInstances", "CreateSnapshots"]
    actions = [call.action for call in amazon.calls]
    assert "DescribeSnapshots" in actions[actions.index("CreateTags") :]
    assert amazon.snapshots(NAME)[volume]["quiesce:held"] == "true"

    record = {**snapshot, "keeper": "ec2_keeper.yml"}
    identity = keep(stage, amazon, "identify", record)
    assert snapshot["snapshot"] in identity
    assert volume in identity
    keep(stage, amazon, "remove", record)
    assert amazon.snapshots(NAME) == {}
    assert keep(stage, amazon, "identify", record) == ""


def keep(stage: Scene, amazon: Amazon, action: str, record: dict[str, Any]) -> str:
    """Have the keeper do something with a snapshot, and return which one it says it is."""
    role = {"name": "quiesce.storage.consistent_snapshot", "tasks_from": "ec2_keeper.yml"}
    variables = {
        "consistent_snapshot_action": action,
        "consistent_snapshot_record": record,
        "consistent_snapshot_ec2_region": REGION,
        "consistent_snapshot_ec2_endpoint": amazon.url,
    }
    task = {"name": "Keep it", "ansible.builtin.include_role": role, "vars": variables}
    with stage.play([task]) as play:
        assert play.finish() == 0, play.said
        if action != "identify":
            return ""
        facts = play.wait("ok", "Say which one it is")["result"]["ansible_facts"]
        identity: str = facts["consistent_snapshot_identity"]
        return identity


def test_check_mode(stage: Scene, amazon: Amazon):
    _instance, volumes = amazon.instance(2)
    with taking(stage, amazon, *volumes, play={"check_mode": True}) as play:
        assert play.finish() == 0, play.said
        assert result(play)["trusted"] is None
    assert amazon.taking() == []
    assert all(not call.frozen for call in amazon.calls)
    assert amazon.snapshots(NAME) == {}


def test_the_playbook_of_the_page(stage: Scene, amazon: Amazon, monkeypatch: pytest.MonkeyPatch):
    """As it stands; the inventory says what EC2 cannot be asked for here."""
    block = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    (page,) = yaml.safe_load(block[1])
    _instance, volumes = amazon.instance(1)
    amazon.calls.clear()
    monkeypatch.setenv("AWS_REGION", REGION)
    stage.variables |= {"consistent_snapshot_ec2_endpoint": amazon.url}
    stage.variables |= {"consistent_snapshot_ec2_volumes": volumes}
    with stage.play(page.pop("tasks"), **page) as play:
        assert play.finish() == 0, play.said
        play.wait("ok", "Say what was taken")
        name = result(play)["name"]
    (call,) = amazon.taking()
    assert list(call.frozen) == ["/"]
    assert list(amazon.snapshots(name)) == volumes


def test_volumes_by_their_disks(tmp_path: Path):
    """NVMe says it in the serial number, Xen by the name that the volume is attached as."""
    disks = [
        {"path": "/", "name": "xvda1", "serial": ""},
        {"path": "/srv", "name": "xvdf", "serial": ""},
        {"path": "/log", "name": "nvme1n1", "serial": "vol0123456789abcdef0"},
        {"path": "/tmp", "name": "nvme2n1", "serial": "AWS1234"},
        {"path": "/other", "name": "xvdg", "serial": ""},
    ]
    attached = {"vol-1": "/dev/sda1", "vol-2": "/dev/xvdf", "vol-3": "/dev/sdz"}
    volumes = [
        {"id": name, "attachment_set": [{"instance_id": "i-1", "device": device}]}
        for name, device in attached.items()
    ]
    # Of another instance, which has one of the same name.
    volumes.append(
        {"id": "vol-4", "attachment_set": [{"instance_id": "i-2", "device": "/dev/sdg"}]}
    )
    variables = {
        "consistent_snapshot_ec2_instance": "i-1",
        "__consistent_snapshot_ec2_disks": disks,
        "__consistent_snapshot_ec2_volumes": {"volumes": volumes},
    }
    tasks = [
        {"ansible.builtin.include_vars": {"file": str(ROLE / "vars" / "main.yml")}},
        {"name": "Map", "ansible.builtin.debug": {"var": "__consistent_snapshot_ec2_mapped"}},
    ]
    here = {"here": {"ansible_connection": "local"}}
    whole = {"hosts": "all", "vars": variables, "tasks": tasks}
    with playing(tmp_path / "play", here, [whole]) as play:
        assert play.finish() == 0, play.said
        mapped = play.wait("ok", "Map")["result"]["__consistent_snapshot_ec2_mapped"]
    found = [each["volume"] for each in mapped]
    assert found == ["vol-1", "vol-2", "vol-0123456789abcdef0", "", ""]


# --- Refused before anything is frozen -----------------------------------------------------


def test_name_taken(stage: Scene, amazon: Amazon):
    """A snapshot of the name, but nothing says that a freeze was held."""
    _instance, volumes = amazon.instance(2)
    tags = [{"Key": "quiesce:name", "Value": NAME}]
    amazon.client.create_snapshot(
        VolumeId=volumes[0], TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}]
    )
    with taking(stage, amazon, *volumes) as play:
        assert play.finish() == 2
        assert f"the name {NAME} is taken" in play.said
        assert "No snapshot was taken" in play.said
        never_frozen(stage, play, amazon)
    assert set(amazon.snapshots(NAME)) == {volumes[0]}


def test_volume_of_another(stage: Scene, amazon: Amazon):
    instance, (volume,) = amazon.instance(1)
    stranger = amazon.volume()
    with taking(stage, amazon, volume, stranger, ec2_instance=instance) as play:
        assert play.finish() == 2
        assert f"{stranger}: not attached to the instance {instance}" in play.said
        never_frozen(stage, play, amazon)


def test_no_volume_of_amazons(stage: Scene, amazon: Amazon):
    """The filesystems of this host are on loop devices, which is found by looking."""
    loop = stage.device().removeprefix("/dev/")
    with taking(stage, amazon) as play:
        assert play.finish() == 2
        assert f"/srv is on {loop}, which is no EBS volume" in play.said
        never_frozen(stage, play, amazon)


def test_no_credentials(stage: Scene, amazon: Amazon, monkeypatch: pytest.MonkeyPatch):
    _instance, volumes = amazon.instance(2)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with taking(stage, amazon, *volumes) as play:
        assert play.finish() == 2
        assert "EC2 could not be asked: Unable to locate credentials" in play.said
        never_frozen(stage, play, amazon)


# --- Failing while all is frozen -----------------------------------------------------------


def test_amazon_gone(stage: Scene, amazon: Amazon):
    _instance, names = amazon.instance(2)
    with taking(stage, amazon, *names, before=str(TASKS / "wait.yml")) as play:
        play.wait("start", "Wait for the test")
        amazon.stop()
        stage.let("frozen")
        thaw = play.wait("ok", "Thaw")["result"]
        assert (thaw["held"], thaw["thawed_by"]) == (True, "request")
        assert play.finish() == 2
        assert "Could not connect to the endpoint" in play.said
        assert DO_NOT_TRUST in play.said
        assert result(play)["trusted"] is False
    amazon.start()
    assert amazon.snapshots(NAME) == {}


def test_quota(stage: Scene, amazon: Amazon):
    _instance, names = amazon.instance(2)
    amazon.refuse = "PendingSnapshotLimitExceeded"
    with taking(stage, amazon, *names) as play:
        assert play.finish() == 2
        assert "(PendingSnapshotLimitExceeded)" in play.said
        assert "wait until earlier snapshots are completed" in play.said
        assert NOTHING_KEPT in play.said
        assert result(play)["snapshots"] == []
        assert play.wait("ok", "Thaw")["result"]["thawed_by"] == "request"
    took_once(amazon)
    assert amazon.snapshots(NAME) == {}


def test_answer_after_the_deadline(stage: Scene, amazon: Amazon):
    """The snapshots are there, and nobody has said so: they are found, and removed."""
    _instance, names = amazon.instance(2)
    amazon.answers.clear()
    with taking(stage, amazon, *names, timeout=SHORT) as play:
        play.wait("ok", "Freeze")
        wait_for(lambda: set(amazon.snapshots(NAME)) >= set(names), 30)
        stage.thawed(2 * SHORT)
        amazon.answers.set()
        assert play.finish() == 2
        thaw = play.wait("ok", "Thaw")["result"]
        assert (thaw["held"], thaw["thawed_by"]) == (False, "deadline")
        assert NOTHING_KEPT in play.said
        assert result(play)["trusted"] is False
    took_once(amazon)
    assert amazon.snapshots(NAME) == {}


def test_nothing_is_taken_after_the_deadline(stage: Scene, amazon: Amazon):
    """EC2 is slow to say what is attached. The task has failed by then, and its module goes on."""
    _instance, names = amazon.instance(2)
    with taking(stage, amazon, *names, timeout=SHORT) as play:
        play.wait("ok", "Freeze")
        amazon.tells.clear()
        asked = len(amazon.calls)
        wait_for(lambda: len(amazon.calls) > asked, 30)
        stage.thawed(2 * SHORT)
        play.wait("failed", "Have EC2 take snapshots of the volumes, of one instant")
        amazon.tells.set()
        assert play.finish() == 2
        wait_for(lambda: not any("python" in command(pid) for pid in play.processes()), 2 * SHORT)
    assert amazon.taking() == []
    assert amazon.snapshots(NAME) == {}


def test_controller_killed(stage: Scene, amazon: Amazon):
    """What it took is not trusted by the next one, which takes nothing."""
    _instance, names = amazon.instance(2)
    with taking(stage, amazon, *names, timeout=SHORT) as play:
        play.wait("ok", "Have EC2 take snapshots of the volumes, of one instant")
        play.kill()
        stage.thawed(2 * SHORT)
    with taking(stage, amazon, *names) as play:
        assert play.finish() == 2
        assert f"the name {NAME} is taken" in play.said
        never_frozen(stage, play, amazon)
