# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of fsfreeze and fsfreeze_run."""

    DOCUMENTATION = r"""
options:
  timeout:
    description:
      - Seconds after which the host thaws by itself, counted from the beginning of the first freeze
        of the set.
      - V(0) is no deadline. At most 86400.
    type: int
    default: 60
  lease:
    description:
      - The name under which the freeze is held, of letters, digits, C(.), C(_) and C(-), at most
        64. One is made up when empty.
    type: str
    default: ''
  freeze_timeout:
    description:
      - Seconds that the freezing itself may take, 1 to 86400, before the task gives up, thaws what
        it froze, and fails.
    type: int
    default: 30
  flush:
    description:
      - Write dirty data back before writers are blocked, and again while that helps, so that they
        are blocked for less time.
    type: bool
    default: true
  flush_timeout:
    description:
      - Seconds within which another flush may begin, 1 to 86400.
    type: int
    default: 30
  unsupported:
    description:
      - What to do with a filesystem that cannot be frozen. V(fail) refuses the whole set, V(skip)
        leaves it out and warns.
      - V(remount_ro) makes its superblock read-only until the thaw, which the kernel refuses while
        a file is open for writing. It takes Linux 5.2.
      - A filesystem that is read-only already is left out by V(skip) and refused by the others.
    type: str
    choices: [fail, skip, remount_ro]
    default: fail
"""
