#!/usr/bin/python

# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: clock_info
short_description: Compare the clock of the managed host with the controller's
version_added: 0.1.0
description:
  - Says by how much the clock of the managed host is ahead of the controller's, and how well that is
    known. It is the difference that times on one of them need to mean the same on the other.
  - The time is asked for several times. Each answer was true at some moment between question and
    answer, which gives two bounds that hold whatever the network does; those of all answers hold
    together.
author:
  - quiesce.storage contributors (@quiesce-storage)
extends_documentation_fragment:
  - quiesce.storage.attributes
  - quiesce.storage.attributes.action
requirements:
  - The command C(date) on the managed host, as GNU coreutils and busybox have it.
options:
  samples:
    description:
      - How often to ask, 1 to 100.
    type: int
    default: 5
attributes:
  diff_mode:
    support: none
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
notes:
  - It runs on the controller, and needs neither Python nor root on the managed host.
"""

EXAMPLES = r"""
- name: How far ahead is the clock of this host?
  quiesce.storage.clock_info:
  register: clock

- name: Refuse a host whose clock is off
  ansible.builtin.assert:
    that: clock.offset | abs < 0.5
"""

RETURN = r"""
offset:
  description:
    - Seconds that the host's clock is ahead of the controller's; negative if it is behind.
    - It is the least that agrees with both bounds, so 0 where they allow for it.
  returned: success
  type: float
  sample: 0.0
low:
  description: The host's clock is at least that many seconds ahead.
  returned: success
  type: float
  sample: -0.012
high:
  description: The host's clock is at most that many seconds ahead.
  returned: success
  type: float
  sample: 0.009
uncertainty:
  description: Seconds by which RV(offset) can be wrong at most.
  returned: success
  type: float
  sample: 0.012
seconds:
  description: How long it took to ask.
  returned: success
  type: float
  sample: 0.11
asked_at:
  description: When it had been asked, in seconds since 1970 by the controller's clock.
  returned: success
  type: float
  sample: 1795223155.5
"""
