#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_check
short_description: Judge whether a snapshot was taken of a quiesced filesystem
version_added: 0.1.0
description:
  - Looks at a snapshot of an ext2, ext3, ext4, XFS or btrfs filesystem and says whether it is one of
    a frozen filesystem, or of one that was being written to.
  - A snapshot of a busy filesystem is usually not damaged, but there is a log to replay, and what
    programs had written last is missing. Such a snapshot is not clean.
  - Opens the snapshot for reading only and mounts nothing. Do not judge what is mounted read-write.
author:
  - quiesce.storage contributors (@quiesce-storage)
extends_documentation_fragment:
  - quiesce.storage.attributes
  - quiesce.storage.attributes.host
requirements:
  - For ext2, ext3 and ext4 C(e2fsck), for XFS C(xfs_repair) and C(xfs_logprint), for btrfs C(btrfs).
options:
  path:
    description:
      - An image file or a block device that holds the filesystem itself, not a partition table.
      - The folder of a btrfs subvolume snapshot is taken too. It is clean if it is read-only, since
        btrfs itself makes these whole; what it lacks of running programs' data cannot be seen.
    type: path
    required: true
  fstype:
    description:
      - The type that the filesystem has to be. Any that is known when not set.
      - The three ext types are taken for one another.
    type: str
    choices: [ext2, ext3, ext4, xfs, btrfs]
  orphans:
    description:
      - Whether files that programs held open but had unlinked count against the snapshot. They
        take up room in it until its first mount.
      - On btrfs they cannot be seen.
    type: bool
    default: false
attributes:
  diff_mode:
    support: none
notes:
  - A freeze leaves the log of an XFS dirty on purpose. It is clean if nothing but the superblock is
    in it.
  - btrfs is consistent at every commit, so a snapshot of a busy one can pass if no program had
    asked for a sync since the last commit. That it passes does not prove that it was frozen.
"""

EXAMPLES = r"""
- name: Is this image one of a frozen filesystem?
  quiesce.storage.snapshot_check:
    path: /srv/snapshots/db.img
  register: snapshot

- name: Say why not
  ansible.builtin.debug:
    var: snapshot.reasons
  when: not snapshot.clean

- name: Fail unless it is clean, unlinked files included
  quiesce.storage.snapshot_check:
    path: /dev/mapper/vg-db_snapshot
    fstype: xfs
    orphans: true
  register: snapshot
  failed_when: not snapshot.clean
"""

RETURN = r"""
clean:
  description: Whether nothing speaks against a quiesced filesystem.
  returned: success
  type: bool
  sample: false
fstype:
  description: The type of the filesystem, null if none was recognised.
  returned: success
  type: str
  sample: ext4
reasons:
  description: What speaks against it, in whole sentences; empty if it is clean.
  returned: success
  type: list
  elements: str
  sample: ["The journal has to be replayed (needs_recovery): it was not frozen."]
checks:
  description: What was looked at, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check.
      type: str
      sample: e2fsck
    argv:
      description: The command that was run; empty where none was needed.
      type: list
      elements: str
      sample: [e2fsck, -fn, /srv/snapshots/db.img]
    rc:
      description: Its return code, null where none was run. Not 0 is right for some checks, such as
        that of a frozen XFS.
      type: int
      sample: 0
    ok:
      description: Whether it was passed.
      type: bool
      sample: true
    summary:
      description: What it found.
      type: str
      sample: Nothing wrong.
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.quiesce.storage.plugins.module_utils._clean import FSTYPES, judge
from ansible_collections.quiesce.storage.plugins.module_utils._errors import (
    QuiesceError,
)


def main() -> None:
    """Judge the snapshot and say what was found."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "fstype": {"type": "str", "choices": list(FSTYPES)},
            "orphans": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        verdict = judge(params["path"], params["fstype"], params["orphans"])
    except QuiesceError as error:
        module.fail_json(msg=error.message, **error.result)
    module.exit_json(changed=False, **verdict.as_dict())


if __name__ == "__main__":
    main()
