#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_mount
short_description: Mount a snapshot read-only, or unmount it
version_added: 0.1.0
description:
  - Mounts the snapshot of an ext2, ext3, ext4, XFS or btrfs filesystem so that nothing at all is written
    to it. It is behind a read-only loop device that goes with the mount, and no log is replayed. The
    original can be mounted at the same time.
  - Unmounts nothing but the very snapshot that is named.
author:
  - quiesce.storage contributors (@quiesce-storage)
extends_documentation_fragment:
  - quiesce.storage.attributes
  - quiesce.storage.attributes.host
requirements:
  - Loop devices, unless the snapshot is a subvolume.
options:
  path:
    description:
      - An image file or a block device that holds the filesystem itself, not a partition table; or the
        folder of a btrfs subvolume, which is then mounted a second time (a bind mount).
    type: path
    required: true
  mountpoint:
    description:
      - Where to mount it. A folder that is not there is made, for root alone. It is not removed.
    type: path
    required: true
  state:
    description:
      - Whether it is to be V(mounted) or V(unmounted).
    type: str
    choices: [mounted, unmounted]
    default: mounted
  fstype:
    description:
      - The type of the filesystem. Found out when not set.
    type: str
    choices: [ext2, ext3, ext4, xfs, btrfs]
  lazy:
    description:
      - Unmount it although it is in use. It can no longer be found then, and is gone altogether with its
        last user. RV(msg) says so.
    type: bool
    default: false
attributes:
  diff_mode:
    support: none
notes:
  - A log is not replayed, so a snapshot that was not taken of a frozen filesystem may look damaged. See
    M(quiesce.storage.snapshot_check).
  - A copy of a btrfs has its UUID. While the original is mounted, kernels before 6.7 do not mount the
    copy. The task fails then, and never mounts the original in its place.
"""

EXAMPLES = r"""
- name: Mount a snapshot
  quiesce.storage.snapshot_mount:
    path: /srv/snapshots/db.img
    mountpoint: /run/snapshot

- name: Unmount it
  quiesce.storage.snapshot_mount:
    path: /srv/snapshots/db.img
    mountpoint: /run/snapshot
    state: unmounted
"""

RETURN = r"""
mounted:
  description: Whether it is mounted there now; in check mode, whether it was.
  returned: success
  type: bool
  sample: true
mountpoint:
  description: Where, symbolic links resolved.
  returned: success
  type: str
  sample: /run/snapshot
source:
  description: The loop device that it is mounted from, or the subvolume itself. Null if it is not mounted.
  returned: success
  type: str
  sample: /dev/loop3
msg:
  description: That it is still in use.
  returned: when it was unmounted while in use
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.quiesce.storage.plugins.module_utils._clean import FSTYPES
from ansible_collections.quiesce.storage.plugins.module_utils._errors import (
    QuiesceError,
)
from ansible_collections.quiesce.storage.plugins.module_utils._snapshot_mount import (
    SnapshotMount,
)


def main() -> None:
    """Mount or unmount the snapshot."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "mountpoint": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["mounted", "unmounted"], "default": "mounted"},
            "fstype": {"type": "str", "choices": list(FSTYPES)},
            "lazy": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        wanted = SnapshotMount(params["path"], params["mountpoint"])
        if params["state"] == "mounted":
            result = wanted.mount(params["fstype"], module.check_mode)
        else:
            result = wanted.unmount(params["lazy"], module.check_mode)
    except QuiesceError as error:
        module.fail_json(msg=error.message, **error.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
