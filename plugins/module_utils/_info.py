# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``fsfreeze_info``: what is frozen, how that is known, and by whom."""

from __future__ import annotations

import os
from typing import Any, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _device
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._filesystems import (
    resolve,
    unsupported,
)
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import held_leases
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    Mount,
    MountTable,
    Place,
    has_block_device,
    locate,
)
from ansible_collections.quiesce.storage.plugins.module_utils._states import States
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import UNKNOWN


class Info:
    """Looks at filesystems; changes nothing, waits for nothing."""

    def __init__(self, probe: bool) -> None:
        self._leases = held_leases()
        self._states = States(self._leases, probe)
        self._table = MountTable()

    @property
    def reason(self) -> str:
        """Why the kernel's own state cannot be read; empty where it can."""
        return self._states.reason

    def of(self, paths: Sequence[str]) -> list[dict[str, Any]]:
        """The filesystems of these paths; ``QuiesceError`` for a path that does not do."""
        return [self._facts(each.path, each.mount, each) for each in resolve(paths)]

    def all(self, unmounted: bool) -> list[dict[str, Any]]:
        """Every mounted filesystem with a block device behind it, and if so asked, those that live
        on a block device and are mounted nowhere that this process sees."""
        seen: dict[str, Mount] = {}
        for mount in self._table.mounts:
            if mount.device not in seen and has_block_device(mount):
                seen[mount.device] = mount
        found = [self._facts(mount.mountpoint, mount, self._open(mount)) for mount in seen.values()]
        if unmounted:
            for place in _device.lost(set(seen)):
                found.append(self._facts(place.path, place.mount, place))
        return found

    def leases(self) -> list[dict[str, Any]]:
        """Every lease of this host that has not ended, and what it was taken of."""
        return [
            {
                **held.facts(),
                "guard": held.guard,
                "filesystems": [
                    {key: each[key] for key in ("path", "mountpoint", "source", "fstype", "device")}
                    for each in held.record["filesystems"]
                ],
            }
            for held in self._leases
        ]

    def _open(self, mount: Mount) -> Place | None:
        """A descriptor of the filesystem, by whichever of its mountpoints is not covered."""
        for other in self._table.of_device(mount.device):
            try:
                place = locate(other.mountpoint)
            except QuiesceError:
                continue
            if place.mount.device == mount.device:
                return place
            os.close(place.fd)
        return None

    def _facts(self, path: str, mount: Mount, place: Any) -> dict[str, Any]:
        state, evidence, supported = UNKNOWN, "none", False
        if place is not None:
            state, evidence = self._states.of(place.fd, place.directory, mount.device)
            supported = unsupported(mount, place.fd, self._states.reader) is None
            os.close(place.fd)
        held = [
            {**lease.facts(), "guard": lease.guard}
            for lease in self._leases
            if lease.holds(mount.device)
        ]
        return {
            "path": path,
            "mountpoints": [each.mountpoint for each in self._table.of_device(mount.device)],
            "source": mount.source,
            "fstype": mount.fstype,
            "device": mount.device,
            "supported": supported,
            "state": state,
            "evidence": evidence,
            "lease": held[0] if held else None,
        }
