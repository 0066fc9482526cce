# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The provider ``ec2`` on a machine whose disk is an NVMe, as EC2 has them; EC2 is moto."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.lab import run
from tests.providers.amazon import CREDENTIALS, REGION, open_amazon
from tests.vm.machine import Machine
from tests.vm.roles import Roles

# An emulated processor takes minutes for a run of the role.
pytestmark = pytest.mark.timeout(3600)

PATH = "/srv/ebs"
_MOUNT = f"""\
set -e
until [ -b /dev/nvme0n1 ]; do sleep 0.1; done
mkfs.ext4 -q /dev/nvme0n1
mkdir {PATH}
mount /dev/nvme0n1 {PATH}
"""


def plug(vm: Machine, volume: str) -> None:
    """Plug a disk in that says in its serial number which volume it is, and mount it on PATH."""
    run("qemu-img", "create", "-q", "-f", "qcow2", vm.folder / "ebs.qcow2", "512M")
    file = {"driver": "file", "filename": "ebs.qcow2"}
    vm.execute("blockdev-add", **{"driver": "qcow2", "node-name": "ebs", "file": file})
    serial = volume.replace("-", "")
    vm.execute("device_add", driver="nvme", id="nvme-ebs", drive="ebs", serial=serial)
    vm.run("sh", "-c", _MOUNT, timeout=120)


def test_a_volume_is_known_by_its_serial_number(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    machine.restore()
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with open_amazon(machine.frozen) as amazon:
        _instance, (volume, _other) = amazon.instance(2)
        plug(machine, volume)
        cloud = {"ec2_region": REGION, "ec2_endpoint": amazon.url}
        roles = Roles(machine, tmp_path, provider="ec2", paths=[PATH], timeout=300, **cloud)
        taken = roles.run(name="nvme")
        assert taken.error == ""
        assert (taken.result["held"], taken.result["trusted"]) == (True, True)
        assert [each["source"] for each in taken.result["snapshots"]] == [volume]
        (call,) = amazon.taking()
        assert call.frozen == [PATH]
        assert list(amazon.snapshots("nvme")) == [volume]
        # A disk that is none of Amazon's.
        refused = roles.run(name="other", paths=["/data"])
        assert "is no EBS volume" in refused.error
    assert machine.frozen() == []
