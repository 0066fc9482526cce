# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes that the modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """What the modules can and cannot do."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying
      target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode),
      when in diff mode.
    support: full
"""

    HOST = r"""
requirements:
  - Linux, Python 3.8 or newer and root on the managed host.
attributes:
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
"""

    ACTION = r"""
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be
      executed on the controller.
    support: full
    details:
      - It keeps Ansible's own files off the managed host's disks, so that no task waits for what is
        frozen.
  async:
    description: Supports being used with the C(async) keyword.
    support: none
    details:
      - Ansible keeps the files of an asynchronous task on disk. The freeze has a deadline of its own.
"""
