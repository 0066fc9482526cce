#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fsfreeze_run
short_description: Run commands while filesystems are frozen
version_added: 0.1.0
description:
  - Freezes a set of filesystems, runs commands on the managed host, and thaws, all in one call,
    which is the shortest pause possible for a snapshot that the host itself can take.
  - Thaws when the last command ends, when one fails, or at the deadline, which also ends the
    command that runs.
  - Thaws at once when the task itself is killed.
  - The commands inherit C(TMPDIR=/dev/shm) and C(PYTHONDONTWRITEBYTECODE=1), so that they do not
    write to a frozen disk either.
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
      - A path other than V(/) that turns out to be on the root filesystem is refused.
    type: list
    elements: path
    required: true
    aliases: [paths]
  commands:
    description:
      - Commands, each a list of its words, run one after another without a shell. A command must
        not write to what is frozen.
    type: list
    elements: list
    required: true
  chdir:
    description: Folder to run the commands in. The default is V(/).
    type: path
  environment:
    description: Environment variables to add for the commands.
    type: dict
    default: {}
  creates:
    description: A file or glob pattern. If it exists, nothing is frozen and nothing is run.
    type: str
  removes:
    description: A file or glob pattern. If it does not exist, nothing is frozen and nothing is run.
    type: str
"""

EXAMPLES = r"""
- name: Clone the image of a filesystem while it is frozen
  quiesce.storage.fsfreeze_run:
    path: /srv/data
    timeout: 10
    commands:
      - [cp, --reflink=always, /images/data.img, /images/data.snapshot.img]
    creates: /images/data.snapshot.img
"""

RETURN = r"""
results:
  description: What the commands did, in their order.
  returned: always
  type: list
  elements: dict
  contains:
    argv:
      description: The command, its program by its full path.
      type: list
      elements: str
    rc:
      description: Its exit status; negative for the signal that ended it.
      type: int
    stdout:
      description: What it wrote to its standard output.
      type: str
    stderr:
      description: What it wrote to its standard error.
      type: str
    start:
      description: When it began.
      type: str
    end:
      description: When it ended.
      type: str
    delta:
      description: How long it took.
      type: str
held:
  description:
    - Whether every filesystem of the set stayed frozen, unbroken, until the commands had ended. The
      task fails where it is false.
    - Null where nothing was frozen, in check mode and where O(creates) or O(removes) made the task
      needless.
  returned: always
  type: bool
thawed_by:
  description: What ended the freeze, V(request), V(deadline), V(guard_lost) or V(other).
  returned: when something was frozen
  type: str
frozen_seconds:
  description: Seconds from the freeze to the first thaw of any of the set.
  returned: when something was frozen
  type: float
filesystems:
  description: As the module M(quiesce.storage.fsfreeze) returns them, of both the freeze and the
    thaw.
  returned: always
  type: list
  elements: dict
left_out:
  description: As the module M(quiesce.storage.fsfreeze) returns them.
  returned: when something was frozen
  type: list
  elements: dict
lease:
  description: As the module M(quiesce.storage.fsfreeze) returns it.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.quiesce.storage.plugins.module_utils import _options
from ansible_collections.quiesce.storage.plugins.module_utils._errors import (
    QuiesceError,
)
from ansible_collections.quiesce.storage.plugins.module_utils._run import (
    Commands,
    Run,
)

_OPTIONS = {
    **_options.FREEZING,
    "commands": {"type": "list", "elements": "list", "required": True},
    "chdir": {"type": "path"},
    "environment": {"type": "dict", "default": {}},
    "creates": {"type": "str"},
    "removes": {"type": "str"},
}


def main() -> None:
    """Freeze, run, thaw."""
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    params = module.params
    commands = Commands(
        [[str(word) for word in argv] for argv in params["commands"]],
        params["chdir"],
        {name: str(value) for name, value in params["environment"].items()},
        params["creates"],
        params["removes"],
    )
    try:
        wish = _options.wish(params, tied=True)
        needless = commands.needless()
        if needless:
            module.exit_json(
                changed=False, msg=needless, filesystems=[], results=[], lease=None, held=None
            )
        run = Run(wish, commands)
        result = run.predict() if module.check_mode else run.run()
    except QuiesceError as error:
        module.fail_json(msg=error.message, **error.result)
    for warning in run.freeze.warnings:
        module.warn(warning)
    if not module._diff:
        result.pop("diff", None)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
