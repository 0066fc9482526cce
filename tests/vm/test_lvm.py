# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What LVM does to a filesystem that is frozen already: facts about three kernels.

device-mapper freezes what lies on it by itself. Until freezes could nest (in Linux 6.12 they can),
a snapshot of a frozen filesystem fails, and a thick one leaves half of itself behind.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.control import MachineError
from tests.vm.machine import Machine

SNAPSHOT = {"thick": ("-s", "-L", "52M"), "thin": ("-s",)}
kinds = pytest.mark.parametrize("kind", SNAPSHOT)
_GROUP = "vg"
_SETUP = f"""\
set -e
disks="/dev/disk/by-id/virtio-pv1 /dev/disk/by-id/virtio-pv2"
pvcreate -q $disks
vgcreate -q {_GROUP} $disks
lvcreate -q -y -L 200M -n thick {_GROUP}
lvcreate -q -y --type thin-pool -L 400M -n pool {_GROUP}
lvcreate -q -y -V 200M --thin -n thin {_GROUP}/pool
for name in thick thin; do
    mkfs.ext4 -q "/dev/{_GROUP}/$name"
    mkdir -p "/srv/$name"
    mount "/dev/{_GROUP}/$name" "/srv/$name"
    echo "$name" >"/srv/$name/file"
done
"""


@pytest.fixture
def lvm(vm: Machine) -> Iterator[Machine]:
    """Give a machine with two logical volumes, which are mounted."""
    vm.run("sh", "-c", _SETUP, timeout=120)
    yield vm
    vm.thaw()


def take(vm: Machine, kind: str) -> None:
    vm.run("lvcreate", "-q", "-y", *SNAPSHOT[kind], "-n", "taken", f"{_GROUP}/{kind}", timeout=60)


def assert_clean(vm: Machine, kind: str) -> None:
    if kind == "thin":
        vm.run("lvchange", "-ay", "-K", f"{_GROUP}/taken")
    vm.run("e2fsck", "-fn", f"/dev/{_GROUP}/taken")
    assert "needs_recovery" not in vm.run("dumpe2fs", "-h", f"/dev/{_GROUP}/taken")


@kinds
def test_lvm_freezes_by_itself(lvm: Machine, kind: str):
    take(lvm, kind)
    assert lvm.frozen() == []
    assert_clean(lvm, kind)


@kinds
def test_snapshot_of_what_is_frozen(lvm: Machine, kind: str):
    path = f"/srv/{kind}"
    lvm.freeze(path, 120)
    if lvm.suite == "trixie":
        take(lvm, kind)
        assert lvm.frozen() == [path]
        assert lvm.thaw() == [path]
        assert_clean(lvm, kind)
        return
    with pytest.raises(MachineError, match="Device or resource busy") as failure:
        take(lvm, kind)
    assert ("Manual intervention required" in str(failure.value)) == (kind == "thick")
    # What was frozen stays frozen until it is thawed, and is none the worse for it.
    assert lvm.frozen() == [path]
    assert lvm.thaw() == [path]
    assert ("taken" in lvm.run("lvs", "--noheadings", "-o", "lv_name")) == (kind == "thick")
    if kind == "thick":
        # This is the intervention.
        lvm.run("lvremove", "-q", "-y", f"{_GROUP}/taken", timeout=60)
    lvm.run("touch", f"{path}/new")
    take(lvm, kind)
    assert_clean(lvm, kind)
