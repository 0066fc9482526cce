#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_snapshot
short_description: Copy the disks of a virtual machine as they are at one moment
version_added: 0.1.0
description:
  - Has qemu copy disks of a virtual machine to raw images, over its monitor. The copies are of the
    one moment at which the module asks for them, however long the copying takes while the machine
    runs on.
  - Runs on the hypervisor. The machine's own disks stay as they are, without overlays, so that
    whatever manages the machine need not know of it.
  - Alone it makes copies of a busy machine. The provider V(qemu) of the role
    P(quiesce.storage.consistent_snapshot#role) calls it while the machine's filesystems are frozen.
author:
  - quiesce.storage contributors (@quiesce-storage)
extends_documentation_fragment:
  - quiesce.storage.attributes
requirements:
  - Linux, Python 3.8 or newer and qemu 5.0 or newer on the hypervisor. The user of the task has to be
    able to connect to the monitor and to write beside the images.
options:
  socket:
    description:
      - Unix socket of a QMP monitor of the machine, such as one made by
        C(-qmp unix:/run/vm/db.qmp,server=on,wait=off). A monitor talks to one program at a time.
    type: path
    required: true
  name:
    description:
      - Name of the snapshot. A copy is called as the image of its disk, a dot, and this.
      - It has no slash.
    type: str
    required: true
  state:
    description:
      - V(present) begins the copies, and waits for their end if so asked (O(wait)).
      - V(absent) ends copies that are under way, and removes what there is of them.
    type: str
    choices: [present, absent]
    default: present
  disks:
    description:
      - The disks, each by the name of its device, its node, or its id. By default all that the
        machine can write to.
    type: list
    elements: str
    default: []
  directory:
    description: Folder for the copies. By default each is made beside the image of its disk.
    type: path
  wait:
    description:
      - Whether to wait until the copies are whole. Without, they have the suffix C(.part) until the
        module is called once more and waits.
    type: bool
    default: true
  timeout:
    description:
      - Seconds to wait for the copies to be whole. They go on after that.
    type: int
    default: 3600
attributes:
  diff_mode:
    support: none
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
notes:
  - C(IMAGE.NAME.json) beside a copy says what it is. A copy without it is not taken for one.
"""

EXAMPLES = r"""
- name: Copy two disks as they are now
  quiesce.storage.qemu_snapshot:
    socket: /run/vm/db.qmp
    name: before_upgrade
    disks: [root, data]
  delegate_to: hypervisor

- name: Remove the copies
  quiesce.storage.qemu_snapshot:
    socket: /run/vm/db.qmp
    name: before_upgrade
    disks: [root, data]
    state: absent
  delegate_to: hypervisor
"""

RETURN = r"""
snapshots:
  description: The copies, those that there would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    source:
      description: The disk, by its device or node.
      type: str
      sample: data
    image:
      description: The file that the disk is in.
      type: str
      sample: /var/lib/vm/data.qcow2
    snapshot:
      description: The raw image.
      type: str
      sample: /var/lib/vm/data.qcow2.before_upgrade
    size:
      description: Bytes of the disk.
      type: int
      sample: 536870912
begun:
  description: Whether the copies had been begun before, or were there.
  returned: success
  type: bool
complete:
  description: Whether the copies are whole.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.quiesce.storage.plugins.module_utils._errors import (
    QuiesceError,
)
from ansible_collections.quiesce.storage.plugins.module_utils._qemu import Copies
from ansible_collections.quiesce.storage.plugins.module_utils._qmp import Qmp


def main() -> None:
    """Copy, or remove copies."""
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "disks": {"type": "list", "elements": "str", "default": []},
            "directory": {"type": "path"},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        with Qmp(params["socket"]) as qmp:
            copies = Copies(qmp, params["name"], params["disks"], params["directory"])
            if params["state"] == "absent":
                result = copies.remove(module.check_mode)
            else:
                seconds = params["timeout"] if params["wait"] else None
                result = copies.make(seconds, module.check_mode)
    except QuiesceError as error:
        module.fail_json(msg=error.message, **error.result)
    module.exit_json(snapshots=[disk.facts() for disk in copies.disks], **result)


if __name__ == "__main__":
    main()
