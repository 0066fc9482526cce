#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_verify
short_description: Check a snapshot, mount it read-only and read all of it
version_added: 0.1.0
description:
  - Judges the snapshot of an ext2, ext3, ext4, XFS or btrfs filesystem as
    M(quiesce.storage.snapshot_check) does, then mounts it and reads what is in it.
  - The mount is one that no other process can see, and that is gone when the module has ended, in
    whatever way. Nothing is written to the snapshot, which is behind a read-only loop device; no log
    is replayed.
  - What is not clean is not mounted.
author:
  - quiesce.storage contributors (@quiesce-storage)
extends_documentation_fragment:
  - quiesce.storage.attributes
  - quiesce.storage.attributes.host
requirements:
  - For ext2, ext3 and ext4 C(e2fsck), for XFS C(xfs_repair) and C(xfs_logprint), for btrfs C(btrfs).
  - Loop devices, unless the snapshot is a subvolume.
options:
  path:
    description:
      - An image file or a block device that holds the filesystem itself, not a partition table; or the
        folder of a read-only btrfs subvolume.
    type: path
    required: true
  fstype:
    description:
      - The type that the filesystem has to be. Any that is known when not set.
      - The three ext types are taken for one another.
    type: str
    choices: [ext2, ext3, ext4, xfs, btrfs]
  read:
    description:
      - V(all) reads the data of every file, V(metadata) every folder and what it says of its files.
    type: str
    choices: [all, metadata]
    default: all
  read_timeout:
    description:
      - Seconds that reading may take, beyond which the snapshot counts as one that cannot be read.
        V(0) is no limit.
    type: int
    default: 0
attributes:
  diff_mode:
    support: none
notes:
  - A copy of a btrfs has its UUID. While the original is mounted, kernels before 6.7 do not mount the
    copy. Then C(btrfs check --check-data-csum) reads all of its data instead, whatever O(read) says, and
    compares it with its checksums.
  - A btrfs on several devices cannot be mounted from one of them, so it is not verified.
  - Encrypted files of which the kernel does not have the key are not read, and do not count against the
    snapshot. The summary of the check C(read) says how many they are.
"""

EXAMPLES = r"""
- name: Is all of this snapshot good?
  quiesce.storage.snapshot_verify:
    path: /srv/snapshots/db.img
  register: snapshot
  failed_when: not snapshot.verified

- name: Walk through a large one, for ten minutes at most
  quiesce.storage.snapshot_verify:
    path: /dev/vg/db_snapshot
    fstype: xfs
    read: metadata
    read_timeout: 600
  register: snapshot
"""

RETURN = r"""
verified:
  description: Whether the snapshot is clean, can be mounted and can be read.
  returned: success
  type: bool
  sample: true
fstype:
  description: The type of the filesystem, null if none was recognised.
  returned: success
  type: str
  sample: ext4
reasons:
  description: What speaks against it, in whole sentences; empty if it is verified.
  returned: success
  type: list
  elements: str
  sample: ["'/data/table' cannot be read: Input/output error."]
checks:
  description: What was looked at, in this order; those of M(quiesce.storage.snapshot_check) first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check.
      type: str
      sample: read
    argv:
      description: The command that was run; empty where none was needed.
      type: list
      elements: str
      sample: []
    rc:
      description: Its return code, null where none was run.
      type: int
      sample: null
    ok:
      description: Whether it was passed.
      type: bool
      sample: true
    summary:
      description: What it found.
      type: str
      sample: 1203 files, 52428800 bytes.
files:
  description: How many regular files were found. 0 where it was not mounted.
  returned: success
  type: int
  sample: 1203
bytes:
  description: How many bytes of their data were read. What is a hole is not read.
  returned: success
  type: int
  sample: 52428800
seconds:
  description: How long all of it took.
  returned: success
  type: float
  sample: 1.92
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.quiesce.storage.plugins.module_utils._clean import FSTYPES
from ansible_collections.quiesce.storage.plugins.module_utils._errors import (
    QuiesceError,
)
from ansible_collections.quiesce.storage.plugins.module_utils._verify import verify


def main() -> None:
    """Verify the snapshot and say what was found."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "fstype": {"type": "str", "choices": list(FSTYPES)},
            "read": {"type": "str", "choices": ["all", "metadata"], "default": "all"},
            "read_timeout": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        found = verify(
            params["path"], params["fstype"], params["read"] == "all", params["read_timeout"]
        )
    except QuiesceError as error:
        module.fail_json(msg=error.message, **error.result)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
