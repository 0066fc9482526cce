#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fsfreeze_info
short_description: Tell which filesystems are frozen, and by whom
version_added: 0.1.0
description:
  - Reads the state of filesystems from the kernel's own superblocks, without touching them.
  - Never changes anything and never waits for a frozen filesystem. Where the state cannot be known
    it says V(unknown), never a guess.
author:
  - quiesce.storage contributors (@quiesce-storage)
extends_documentation_fragment:
  - quiesce.storage.attributes
  - quiesce.storage.attributes.host
  - quiesce.storage.attributes.action
options:
  path:
    description:
      - Absolute paths, each of which stands for the filesystem that contains it.
      - By default every mounted filesystem that has a block device behind it.
    type: list
    elements: path
    aliases: [paths]
  probe:
    description:
      - Where the kernel's own state cannot be read, try a change that changes nothing. On a frozen
        filesystem that leaves one process asleep until the thaw.
      - Never done where C(kernel.hung_task_panic) is set, since a sleeping process could panic the
        host.
    type: bool
    default: false
  unmounted:
    description:
      - Where no O(path) is given, also tell of filesystems that live on a block device of this host
        and are mounted nowhere, as one that was unmounted while it was frozen. Their C(path) is
        their device, by which M(quiesce.storage.fsfreeze) thaws them.
      - To look at one it is mounted once more, in a namespace of its own, for a moment; nothing is
        read from the device or written to it.
    type: bool
    default: false
attributes:
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: What is frozen on this host?
  quiesce.storage.fsfreeze_info:
  register: info

- name: Say so
  ansible.builtin.debug:
    msg: "{{ info.filesystems | selectattr('state', 'equalto', 'frozen') }}"

- name: Is this one frozen?
  quiesce.storage.fsfreeze_info:
    path: /srv/data
"""

RETURN = r"""
filesystems:
  description: The filesystems.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The first of the paths that named it, or its first mountpoint; with
        O(unmounted) the device of one that has none.
      type: str
      sample: /srv/data/db
    mountpoints:
      description: Where it is mounted.
      type: list
      elements: str
      sample: [/srv/data]
    source:
      description: What is mounted there.
      type: str
      sample: /dev/vdb1
    fstype:
      description: Type of the filesystem.
      type: str
      sample: xfs
    device:
      description: Device number of the superblock.
      type: str
      sample: "254:17"
    supported:
      description: Whether it can be frozen.
      type: bool
    state:
      description: V(frozen), V(thawed), V(freezing) or V(unknown).
      type: str
      sample: thawed
    evidence:
      description: How the state is known, V(kernel), V(lease), V(probe) or V(none).
      type: str
      sample: kernel
    lease:
      description: The lease that holds it, as the module M(quiesce.storage.fsfreeze) returns it,
        and its C(guard), V(alive), V(silent) or V(dead); null where there is none.
      type: dict
nesting:
  description:
    - Whether this kernel lets device-mapper freeze a filesystem that is frozen already, as it does
      for a snapshot of LVM. It can since Linux 6.8; before that, such a snapshot fails.
    - Null where it cannot be known.
  returned: always
  type: bool
  sample: true
leases:
  description: Every lease of this host that has not ended, whatever O(path) says.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: nightly
    frozen_at:
      description: Since when, in ISO 8601, UTC.
      type: str
      sample: "2026-11-21T01:05:55.120345Z"
    deadline:
      description: Until when; null without a deadline.
      type: str
      sample: "2026-11-21T01:06:55.120345Z"
    timeout:
      description: Seconds from the freeze to the deadline, 0 without one.
      type: int
      sample: 60
    guard_pid:
      description: Its guard's process.
      type: int
      sample: 4711
    guard:
      description: V(alive), V(silent) where the process does not answer, as when it is stopped, or V(dead).
      type: str
      sample: alive
    filesystems:
      description: What it was taken of, as it was named then.
      type: list
      elements: dict
      sample: [{"path": /srv, "mountpoint": /srv, "source": /dev/vdb1, "fstype": xfs, "device": "254:17"}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.quiesce.storage.plugins.module_utils._errors import (
    QuiesceError,
)
from ansible_collections.quiesce.storage.plugins.module_utils._info import Info
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    nesting,
)


def main() -> None:
    """Look, and say what was seen."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "list", "elements": "path", "aliases": ["paths"]},
            "probe": {"type": "bool", "default": False},
            "unmounted": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        info = Info(module.params["probe"])
        paths = module.params["path"]
        unmounted = module.params["unmounted"]
        filesystems = info.all(unmounted) if paths is None else info.of(paths)
    except QuiesceError as error:
        module.fail_json(msg=error.message, **error.result)
    if any(each["state"] == "unknown" for each in filesystems) and info.reason:
        module.warn("the kernel's own state cannot be read: %s" % info.reason)
    module.exit_json(
        changed=False, filesystems=filesystems, leases=info.leases(), nesting=nesting()
    )


if __name__ == "__main__":
    main()
