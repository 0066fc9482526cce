# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter ``overlap``: from when until when all hosts of a group were frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

DOCUMENTATION = r"""
name: overlap
short_description: From when until when all hosts of a group were frozen
version_added: 0.1.0
author:
  - quiesce.storage contributors (@quiesce-storage)
description:
  - Tells the interval in which every filesystem of every host was frozen, on the controller's
    clock, and how far apart the hosts were frozen.
  - The interval begins when the controller had heard of the last host that it is frozen, and ends
    when it asked the first one to thaw. What every host proves of itself, that its freeze was
    held from the one to the other, makes it true whatever their clocks say.
options:
  _input:
    description:
      - For each host a dictionary with C(host); C(frozen_by) and C(thaw_from), when the
        controller had heard of the freeze, and when it asked for the thaw (seconds since 1970);
        C(held); C(complete_at), when all of the host was frozen by its own clock (ISO 8601);
        C(offset) and C(uncertainty) of that clock, as M(quiesce.storage.clock_info) returns them.
      - What is missing is not known.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Say from when until when both were frozen
  ansible.builtin.debug:
    msg: "{{ hosts | quiesce.storage.overlap }}"
  vars:
    hosts:
      - {host: web1, frozen_by: 10.0, thaw_from: 12.0, held: true}
      - {host: web2, frozen_by: 10.2, thaw_from: 12.1, held: true}
    # => proven: true, seconds: 1.8
"""

RETURN = r"""
_value:
  description:
    - C(proven) is true if every host was frozen in all of the interval; C(from) and C(until), its
      ends (ISO 8601 UTC, null where unknown), C(seconds), its length; C(hosts), their names;
      C(spread_seconds), between the first and the last host that was frozen, by their own clocks,
      and C(spread_uncertainty), by how much that can be wrong, both null where unknown.
  type: dict
"""


def overlap(hosts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """See the documentation above."""
    began = [each.get("frozen_by") for each in hosts]
    ended = [each.get("thaw_from") for each in hosts]
    since, until = _all(began, max), _all(ended, min)
    held = bool(hosts) and all(each.get("held") is True for each in hosts)
    length = until - since if since is not None and until is not None else 0.0
    complete = [
        _seconds(each["complete_at"]) - each["offset"]
        for each in hosts
        if each.get("complete_at") and each.get("offset") is not None
    ]
    known = bool(hosts) and len(complete) == len(hosts)
    return {
        "proven": held and length > 0,
        "from": _iso(since),
        "until": _iso(until),
        "seconds": max(0.0, length),
        "hosts": [each["host"] for each in hosts],
        "spread_seconds": max(complete) - min(complete) if known else None,
        # Two of them can be wrong in opposite directions.
        "spread_uncertainty": 2 * max(each["uncertainty"] for each in hosts) if known else None,
    }


def _all(values: Sequence[float | None], ends: Callable[[list[float]], float]) -> float | None:
    found = [float(value) for value in values if value is not None]
    return ends(found) if found and len(found) == len(values) else None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class FilterModule:
    """What this file gives to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by their names."""
        return {"overlap": overlap}
