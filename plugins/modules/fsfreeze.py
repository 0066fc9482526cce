#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fsfreeze
short_description: Freeze and thaw mounted filesystems
version_added: 0.1.0
description:
  - Freezes a set of mounted filesystems, all of it or nothing, so that a snapshot taken meanwhile
    is clean, and thaws it.
  - A frozen set is held by a I(guard), a process on the managed host that thaws it at its deadline,
    whatever happened to the controller, to the network or to the guard itself, and that proves
    whether the freeze was ever broken.
  - Every path stands for the filesystem that contains it. Bind mounts and btrfs subvolumes of one
    superblock are one filesystem.
  - The state is read from the kernel, so check mode tells the truth and touches nothing.
author:
  - quiesce.storage contributors (@quiesce-storage)
extends_documentation_fragment:
  - quiesce.storage.freezing
  - quiesce.storage.attributes
  - quiesce.storage.attributes.host
  - quiesce.storage.attributes.action
options:
  path:
    description:
      - Absolute paths. Each stands for the filesystem that contains it; two paths on one filesystem
        are one.
      - With O(state=frozen), a path other than V(/) that turns out to be on the root filesystem is
        refused, since what should be mounted there is not. Name V(/) to freeze the root filesystem.
      - With O(state=thawed), a block device may be named, also one whose filesystem was left behind
        frozen and is no longer mounted.
    type: list
    elements: path
    required: true
    aliases: [paths]
  state:
    description:
      - V(frozen) freezes the set in an order that cannot deadlock, a filesystem before what it is
        stored on. If the whole set is already held by O(lease), its deadline is renewed. If all of it
        is frozen by somebody else, that is a warning without O(lease) and a failure with it. If only a
        part of it is, that is a failure.
      - V(thawed) with O(lease) thaws only what that lease holds. Without O(lease) it thaws whatever
        on these paths is frozen from user space, whoever froze it.
    type: str
    choices: [frozen, thawed]
    required: true
  at:
    description:
      - With O(state=frozen), when to begin to freeze, on the clock of the managed host, so that hosts
        freeze at the same time. ISO 8601 with an offset from UTC, such as
        V(2026-11-21T01:05:55.5Z), or seconds since 1970. At most a day ahead. O(lease) has to be set.
      - A call before that time arms a guard, which flushes, flushes once more just before the time,
        and freezes then. The call returns when it is armed, RV(armed), and nothing is frozen yet.
      - Another call before that time agrees on another one. V(later) arms a guard for a time that is
        to be agreed on so; if there is none O(timeout) seconds later, it disarms itself.
      - A call after that time, or with the same time less than 2 seconds before it, waits until the set is frozen. It fails if it is not, or if no guard
        was armed; it never freezes late.
    type: str
"""

EXAMPLES = r"""
- name: Freeze two filesystems for a snapshot; the host thaws them by itself after 30 seconds
  quiesce.storage.fsfreeze:
    path:
      - /srv/data
      - /srv/log
    state: frozen
    timeout: 30
    lease: nightly

- name: Thaw them, and learn whether they stayed frozen until now
  quiesce.storage.fsfreeze:
    path:
      - /srv/data
      - /srv/log
    state: thawed
    lease: nightly
  register: thaw

- name: Do not trust the snapshot if they did not
  ansible.builtin.assert:
    that: thaw.held

- name: Thaw whatever is frozen on this path, whoever froze it
  quiesce.storage.fsfreeze:
    path: /srv/data
    state: thawed

- name: Arm a freeze that begins at the same time on all hosts
  quiesce.storage.fsfreeze:
    path: /srv/data
    state: frozen
    lease: together
    at: "{{ agreed }}"

- name: Thaw a filesystem that was unmounted while it was frozen
  quiesce.storage.fsfreeze:
    path: /dev/vdb1
    state: thawed
"""

RETURN = r"""
filesystems:
  description: The filesystems of the set, in the order of freezing.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The first of the paths that named it.
      type: str
      sample: /srv/data/db
    mountpoint:
      description: Where it is mounted; empty when it was reached by its block device.
      type: str
      sample: /srv/data
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
    before:
      description: State before the task, V(frozen), V(thawed), V(freezing) or V(unknown).
      type: str
      sample: thawed
    state:
      description: State after the task (in check mode, after it would have run).
      type: str
      sample: frozen
    flush_seconds:
      description: How long the flush before the freeze took, while nobody had to wait.
      type: float
      returned: on a freeze
    freeze_seconds:
      description: How long the freezing itself took; writers wait from its beginning.
      type: float
      returned: on a freeze
    pause:
      description:
        - Seconds that writers were blocked on this filesystem, measured by a process of the guard
          that was blocked as they were. A file system that is remounted read-only blocks nobody; then
          it is how long it was read-only.
        - Null where that is not known, as of a freeze without a lease, or one that ended before.
      type: float
      returned: O(state=thawed), and by M(quiesce.storage.fsfreeze_run)
      sample: 0.047
left_out:
  description: Filesystems that were left out (O(unsupported=skip)), as in RV(filesystems), each
    with a C(reason).
  returned: on a freeze
  type: list
  elements: dict
armed:
  description: A guard is armed, and freezes at the time that was agreed. Nothing is frozen yet.
  returned: with O(at), before that time
  type: bool
lease:
  description: The lease that holds the set, or held it; null where there is none.
  returned: always
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: nightly
    frozen_at:
      description: When the first filesystem of the set began to be frozen, ISO 8601 UTC.
      type: str
      sample: "2026-11-21T01:05:55.123456Z"
    complete_at:
      description: Since when all of the set is frozen, ISO 8601 UTC.
      type: str
      returned: when all of it is, or was
      sample: "2026-11-21T01:05:55.165211Z"
    deadline:
      description: When the host thaws by itself, ISO 8601 UTC; null where O(timeout=0).
      type: str
      sample: "2026-11-21T01:06:55.123456Z"
    timeout:
      description: Seconds from the freeze, or from the last renewal, to the deadline.
      type: int
      sample: 60
    at:
      description: For when the freeze is agreed, or was, ISO 8601 UTC.
      type: str
      returned: with O(at)
      sample: "2026-11-21T01:05:55.500000Z"
    guard_pid:
      description: Process ID of the guard on the managed host.
      type: int
      sample: 4711
held:
  description:
    - Whether every filesystem of the lease stayed frozen, unbroken, from its freeze until this very
      thaw. Null where no lease was there to prove it.
    - A thaw by the deadline, by anybody else, or a thaw and a new freeze in between make it false.
  returned: O(state=thawed)
  type: bool
thawed_by:
  description: What ended the freeze, V(request), V(deadline), V(guard_lost) or V(other); null where
    no lease was there.
  returned: O(state=thawed)
  type: str
  sample: request
frozen_seconds:
  description: Seconds from the freeze to the first thaw of any of the set; null where no lease was
    there.
  returned: O(state=thawed)
  type: float
  sample: 1.42
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.quiesce.storage.plugins.module_utils import _options
from ansible_collections.quiesce.storage.plugins.module_utils._agreed import (
    AgreedFreeze,
    moment,
)
from ansible_collections.quiesce.storage.plugins.module_utils._errors import (
    QuiesceError,
)
from ansible_collections.quiesce.storage.plugins.module_utils._freeze import Freeze, Wish
from ansible_collections.quiesce.storage.plugins.module_utils._unfreeze import Thaw

# What ``settled`` says is left to do.
_TO_DO = ("renew", "agree", "wait")


def main() -> None:
    """Freeze or thaw, as the options say."""
    module = AnsibleModule(
        argument_spec={
            **_options.FREEZING,
            "state": {"type": "str", "choices": ["frozen", "thawed"], "required": True},
            "at": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        wish = _options.wish(module.params)
        if module.params["state"] == "frozen":
            frozen = _wanted(wish, module.params["at"])
            result, warnings = _freeze(frozen, module.check_mode), frozen.warnings
        else:
            thaw = Thaw(wish.paths, wish.lease)
            result = thaw.predict() if module.check_mode else thaw.thaw()
            warnings = thaw.warnings
    except QuiesceError as error:
        module.fail_json(msg=error.message, **error.result)
    for warning in warnings:
        module.warn(warning)
    if not module._diff:
        result.pop("diff", None)
    module.exit_json(**result)


def _wanted(wish: Wish, at: str | None) -> Freeze:
    if at is None:
        return Freeze(wish)
    if not wish.lease:
        raise QuiesceError("at needs a lease: name it, so that a later call can refer to it")
    return AgreedFreeze(wish._replace(at=moment(at)))


def _freeze(frozen: Freeze, check_mode: bool) -> dict[str, Any]:
    settled = frozen.settled()
    if settled is not None and not check_mode:
        return frozen.renew(settled)
    if settled is not None:
        return {key: settled[key] for key in settled if key not in _TO_DO}
    return frozen.predict() if check_mode else frozen.freeze()[0]


if __name__ == "__main__":
    main()
