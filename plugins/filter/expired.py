# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: expired
short_description: Which snapshots of a set are not to be kept
version_added: 0.1.0
author:
  - quiesce.storage contributors (@quiesce-storage)
description:
  - Says which of a set of snapshots have to go, by how many there are and by how old they are. Removes
    nothing itself.
  - The last verified snapshot never goes; where none is verified, the newest that is trusted.
positional: _input, keep, age
options:
  _input:
    description:
      - The snapshots, each with C(name), C(created) (ISO 8601; UTC where it says nothing else), and if it
        is known C(verified) and C(trusted). Their order does not matter.
    type: list
    elements: dict
    required: true
  keep:
    description:
      - How many to keep. V(0) is no limit.
    type: int
    default: 0
  age:
    description:
      - Those that are older go, a number with V(s), V(m), V(h), V(d) or V(w) behind it. Empty is no limit.
      - Where both are given, a snapshot goes if it is beyond the one or the other.
    type: str
    default: ""
  current:
    description:
      - Name of the one that has just been taken. It never goes, and counts as the newest.
    type: str
  now:
    description:
      - The time to reckon from, ISO 8601. By default the controller's.
    type: str
"""

EXAMPLES = r"""
- name: What goes if a week's snapshots are kept?
  ansible.builtin.debug:
    msg: "{{ snapshots | quiesce.storage.expired(age='7d') }}"
  vars:
    snapshots:
      - {name: monday, created: '2026-11-16T01:00:00Z', verified: true, trusted: true}
      - {name: today, created: '2026-11-24T01:00:00Z', verified: true, trusted: true}
"""

RETURN = r"""
_value:
  description: Names of those that have to go, the oldest first.
  type: list
  elements: str
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.errors import AnsibleFilterError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
_FRACTION = re.compile(r"\.[0-9]+")


def expired(
    records: Sequence[Mapping[str, Any]],
    keep: int | str = 0,
    age: str = "",
    current: str | None = None,
    now: str | None = None,
) -> list[str]:
    """Names of the records that have to go, the oldest first.

    :raises AnsibleFilterError: ``keep``, ``age`` or a time is not what it should be.
    """
    count, limit = _count(keep), _limit(age)
    moment = _time(now) if now else datetime.now(UTC)
    made = {str(record["name"]): _time(record["created"]) for record in records}
    newest_first = sorted(
        records,
        key=lambda record: (record["name"] == current, made[str(record["name"])], record["name"]),
        reverse=True,
    )
    safe = {current, _last(newest_first, "verified") or _last(newest_first, "trusted")}
    gone = []
    for place, record in enumerate(newest_first):
        name = str(record["name"])
        too_many = count > 0 and place >= count
        too_old = limit is not None and moment - made[name] > limit
        if name not in safe and (too_many or too_old):
            gone.append(name)
    return gone[::-1]


def _last(newest_first: Sequence[Mapping[str, Any]], what: str) -> str | None:
    """The newest record of which ``what`` is known to be true."""
    return next((str(each["name"]) for each in newest_first if each.get(what) is True), None)


def _count(keep: int | str) -> int:
    if not re.fullmatch("[0-9]{1,9}", str(keep)):
        raise AnsibleFilterError(
            f"consistent_snapshot_keep is {keep!r}; it is a number of snapshots, 0 for no limit"
        )
    return int(keep)


def _limit(age: str) -> timedelta | None:
    if not age:
        return None
    found = _AGE.fullmatch(str(age))
    if not found:
        raise AnsibleFilterError(
            f"consistent_snapshot_keep_age is {age!r}; it is a number with s, m, h, d or w behind "
            "it, such as 14d"
        )
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        return timedelta.max


def _time(text: str) -> datetime:
    """A moment; fractions of a second make no difference here."""
    try:
        found = datetime.fromisoformat(_FRACTION.sub("", str(text)).replace("Z", "+00:00"))
    except ValueError as error:
        raise AnsibleFilterError(f"{text!r} is no time as ISO 8601 writes it") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Their names, and what they are."""
        return {"expired": expired}
