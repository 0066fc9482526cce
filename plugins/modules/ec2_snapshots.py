#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ec2_snapshots
short_description: Take snapshots of EBS volumes of an instance, all of one instant
version_added: 0.1.0
description:
  - Has snapshots of some of the volumes of an EC2 instance taken by one C(CreateSnapshots), which makes
    all of them of one instant. The module P(amazon.aws.ec2_snapshot#module) takes one of one volume.
  - Meant for the time in which filesystems are frozen. It returns once the snapshots are begun, which is
    what they are snapshots of, and does not wait until they are completed. No call is made twice, so
    that one that fails does so at once.
  - Takes new snapshots every time it runs. The role P(quiesce.storage.consistent_snapshot#role) looks
    for those that are there.
  - Runs on the controller (C(delegate_to=localhost)) rather than on the instance.
author:
  - quiesce.storage contributors (@quiesce-storage)
requirements:
  - boto3
options:
  instance_id:
    description:
      - The instance that the volumes are attached to. It is looked for when not set, by one call more.
    type: str
  volume_ids:
    description:
      - The volumes to take snapshots of, at least one. The others of the instance are left out, 40 of them at most.
    type: list
    elements: str
    required: true
  tags:
    description:
      - Tags of each snapshot, which it has from the beginning.
    type: dict
    default: {}
  description:
    description:
      - Description of each snapshot.
    type: str
    default: ""
  timeout:
    description:
      - Seconds after which no snapshot is asked for any more. V(0) means no limit.
      - When the keyword C(timeout) of a task ends that task, the module itself goes on. With a smaller number
        here, it takes nothing once the task has failed.
    type: int
    default: 0
  region:
    description:
      - The region. What E(AWS_REGION), E(AWS_DEFAULT_REGION) or the profile says when not set.
    type: str
  profile:
    description:
      - Name of a profile in boto3's files. What E(AWS_PROFILE) says when not set.
      - Other credentials come from the environment, as boto3 takes them.
    type: str
  endpoint_url:
    description:
      - The address of the EC2 interface, if it is not Amazon's.
    type: str
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Makes the call with C(DryRun), so that a lack of permission is found.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: posix
seealso:
  - module: amazon.aws.ec2_snapshot
"""

EXAMPLES = r"""
- name: Take snapshots of two volumes, of one instant
  quiesce.storage.ec2_snapshots:
    instance_id: i-0123456789abcdef0
    volume_ids: [vol-0123456789abcdef0, vol-0123456789abcdef1]
    tags:
      Name: before_upgrade
    region: eu-central-1
  delegate_to: localhost
  become: false
"""

RETURN = r"""
snapshots:
  description: The snapshots that were begun, in the order of O(volume_ids).
  returned: success
  type: list
  elements: dict
  contains:
    snapshot_id:
      description: Its name.
      type: str
      sample: snap-0123456789abcdef0
    volume_id:
      description: What it is one of.
      type: str
      sample: vol-0123456789abcdef0
    volume_size:
      description: Size of the volume, in GiB.
      type: int
      sample: 100
instance_id:
  description: The instance that the volumes are attached to.
  returned: success
  type: str
  sample: i-0123456789abcdef0
others:
  description: Snapshots of volumes that were attached just before the call, and that nobody asked for.
  returned: success
  type: list
  elements: str
  sample: []
taken:
  description: Names of the snapshots that were begun all the same, where EC2 took none of some of
    the volumes.
  returned: on failure, if EC2 left a volume out
  type: list
  elements: str
  sample: [snap-0123456789abcdef0]
code:
  description: EC2's name for why it refused.
  returned: on failure, if EC2 refused
  type: str
  sample: PendingSnapshotLimitExceeded
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.quiesce.storage.plugins.module_utils._ebs import Ebs
from ansible_collections.quiesce.storage.plugins.module_utils._errors import (
    QuiesceError,
)


def main() -> None:
    """Take the snapshots and say which they are."""
    module = AnsibleModule(
        argument_spec={
            "instance_id": {"type": "str"},
            "volume_ids": {"type": "list", "elements": "str", "required": True},
            "tags": {"type": "dict", "default": {}},
            "description": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 0},
            "region": {"type": "str"},
            "profile": {"type": "str"},
            "endpoint_url": {"type": "str"},
        },
        supports_check_mode=True,
    )
    params = module.params
    volumes = params["volume_ids"]
    tags = {str(key): str(value) for key, value in params["tags"].items()}
    if params["timeout"] < 0:
        module.fail_json(msg="timeout is %d; it wants a number of seconds" % params["timeout"])
    try:
        ebs = Ebs(params["region"], params["profile"], params["endpoint_url"], params["timeout"])
        instance = params["instance_id"] or ebs.instance_of(volumes)
        taken = ebs.snapshot(instance, volumes, tags, params["description"], module.check_mode)
    except QuiesceError as error:
        module.fail_json(msg=error.message, **error.result)
    by_volume = {each["VolumeId"]: each for each in taken}
    asked_for = [by_volume.pop(volume) for volume in volumes if volume in by_volume]
    module.exit_json(
        changed=True,
        instance_id=instance,
        snapshots=[
            {
                "snapshot_id": each["SnapshotId"],
                "volume_id": each["VolumeId"],
                "volume_size": each["VolumeSize"],
            }
            for each in asked_for
        ],
        others=[each["SnapshotId"] for each in by_volume.values()],
    )


if __name__ == "__main__":
    main()
