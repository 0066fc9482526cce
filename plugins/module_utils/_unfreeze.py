# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``state=thawed``: through the guard that holds a filesystem, or straight to the kernel."""

from __future__ import annotations

import contextlib
import os
import posixpath
from typing import Any, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _device, _ioctl, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._filesystems import (
    Filesystem,
    add,
    difference,
)
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import (
    Held,
    ask,
    held_leases,
    kill,
)
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    Mount,
    Place,
    check_absolute,
    locate,
)
from ansible_collections.quiesce.storage.plugins.module_utils._process import require_privilege
from ansible_collections.quiesce.storage.plugins.module_utils._states import States
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    FREEZING,
    FROZEN,
    THAWED,
    UNKNOWN,
)

# The second process thaws within milliseconds, if it lives, and ends when the kernel has let go.
_SECOND_SECONDS = 2.0
_SHOWN = ("mountpoint", "source", "fstype", "device")
_NO_PROOF: dict[str, Any] = {
    "held": None,
    "thawed_by": None,
    "frozen_seconds": None,
    "lease": None,
}


class Thaw:
    """A set of paths on its way to being thawed."""

    def __init__(self, paths: Sequence[str], lease: str) -> None:
        """Find what the paths, and the lease if one is named, stand for."""
        check_absolute(paths)
        if lease:
            _lease.check_name(lease)
        require_privilege()
        self._lease = lease
        self.warnings: list[str] = []
        self._leases = [held for held in held_leases() if not lease or held.name == lease]
        # Of how this lease ended it can be told even where its paths lead nowhere any more.
        record = (_lease.read(lease) if lease else None) or {"filesystems": []}
        self._ended = [each for each in record["filesystems"] if record.get("ended")]
        self._pauses: dict[str, float | None] = {}
        # What guards say of what they have thawed, for where the kernel cannot be asked.
        self._told: dict[str, str] = {}
        self._states = States(self._leases)
        # Filesystems of leases that the paths named when they were frozen: after a lazy
        # unmount the path leads elsewhere, and the guard still holds what it led to.
        self._remembered: dict[str, dict[str, Any]] = {}
        found: dict[str, Filesystem] = {}
        for path in paths:
            self._find(path, found)
        self.set = list(found.values())
        for each in self.set:
            each.before = each.state = self._state(each)

    def _find(self, path: str, found: dict[str, Filesystem]) -> None:
        normal = posixpath.normpath(path)
        remembered = [
            each
            for held in self._leases
            for each in held.record["filesystems"]
            if normal in (each.get("path"), each.get("mountpoint"))
        ]
        self._remembered.update({each["device"]: each for each in remembered})
        if _device.is_block_device(path):
            self._find_device(path, found)
            return
        try:
            add(found, locate(path))
        except QuiesceError:
            past = [each for each in self._ended if normal in (each["path"], each["mountpoint"])]
            if not remembered and not past:
                raise
            for each in past:
                mount = Mount(**{key: each[key] for key in _SHOWN})
                found[each["device"]] = Filesystem(Place(path, -1, False, mount))

    def _find_device(self, path: str, found: dict[str, Filesystem]) -> None:
        if _device.in_use(path):
            add(found, _device.reach(path))
            return
        # No superblock, so nothing frozen; it is named in the answer all the same.
        number = os.stat(path).st_rdev
        device = "%d:%d" % (os.major(number), os.minor(number))
        found[device] = Filesystem(Place(path, -1, False, Mount(device=device, source=path)))

    def _state(self, each: Filesystem) -> str:
        if each.fd < 0:
            return THAWED
        return self._states.of(each.fd, each.directory, each.device)[0]

    def predict(self) -> dict[str, Any]:
        """Check mode: what would be returned, from the kernel's own state."""
        devices = self._devices()
        changed = any(held.holds(device) for held in self._leases for device in devices)
        for each in self.set:
            if each.before == UNKNOWN and not self._lease:
                self.warnings.append(
                    "it is not known whether %s is frozen (%s), so a change is assumed"
                    % (each, self._states.reason)
                )
            ours = any(held.holds(each.device) for held in self._leases)
            if each.before != THAWED and (ours or not self._lease):
                changed = True
                each.state = THAWED
        return self._result(changed, dict(_NO_PROOF))

    def thaw(self) -> dict[str, Any]:
        """Thaw; the answer says by whom it was held, and whether the freeze was whole."""
        devices = self._devices()
        changed, proofs = False, []
        for held in self._leases:
            chosen = [device for device in devices if held.covers(device)]
            if chosen:
                thawed, proof = self._ask(held, chosen)
                changed |= thawed
                if proof is not None:
                    proofs.append(proof)
        if not proofs:
            proofs = self._past(devices)
        if self._leases:
            self._states.leases = held_leases()
        for each in self.set:
            each.state = self._state(each)
            if each.fd >= 0 and each.state != THAWED and not self._lease:
                changed |= self._directly(each)
                each.state = self._state(each)
            if each.state == UNKNOWN:
                each.state = self._told.get(each.device, UNKNOWN)
        self._say_what_is_left()
        return self._result(changed, _together(proofs))

    def _devices(self) -> list[str]:
        return list(dict.fromkeys([each.device for each in self.set] + list(self._remembered)))

    def _ask(self, held: Held, devices: list[str]) -> tuple[bool, dict[str, Any] | None]:
        """Have the guard of a lease thaw; do it in its place if it is dead or silent.

        No proof comes of it where another call was told how the lease ended.
        """
        answer = None
        if held.status is not None:
            answer = ask(held.name, {"op": "thaw", "devices": devices})
        if answer is not None and answer.get("ok"):
            for each in answer["filesystems"]:
                self._pauses[each["device"]] = each["pause"]
                left = FREEZING if each.get("freezing") else FROZEN if each["ours"] else THAWED
                self._told[each["device"]] = left
                if each["error"]:
                    self.warnings.append(
                        "%s could not be thawed yet: %s; the guard (pid %s) goes on trying"
                        % (each["device"], each["error"], answer["lease"]["guard_pid"])
                    )
            by = answer["thawed_by"] or "request"
            if by == "other":
                _reported(held.name)
            return answer["changed"], {**answer, "thawed_by": by}
        record = _lease.read(held.name)
        if not record and not _lease.guarded(held.name):
            # Another call has thawed it since this one began, and was told how it ended.
            return False, None
        if record and not held.is_of(record):
            # Frozen once more by another call: that is what there is to thaw.
            return self._ask_again(held.name, devices)
        if record and record.get("ended"):
            # It has ended by itself since this call began, or another one gave up to wait for it.
            _reported(held.name)
            return False, {**record["ended"], "lease": record["lease"]}
        if _lease.is_over(record or held.record, False):
            self.warnings.append(
                "the guard of lease %r (pid %s) does not answer. It has frozen nothing yet: "
                "kill -CONT lets it go on if it was stopped, kill -KILL ends it"
                % (held.name, held.facts().get("guard_pid"))
            )
            return False, None
        lost = {"held": False, "thawed_by": "guard_lost", "frozen_seconds": None}
        changed, done, missed = self._in_place_of(held, devices)
        if missed:
            if done and not held.guarded:
                with contextlib.suppress(OSError):
                    _lease.mark_released(held.name, done)
            return changed, {**lost, "lease": held.facts()}
        self.warnings.append("%s was thawed in the place of its guard" % held.sentence())
        if not held.guarded:
            with contextlib.suppress(OSError):
                if all(each["device"] in devices for each in _lease.left(held.record)):
                    _lease.conclude(held.name, False, "guard_lost", None)
                else:
                    _lease.mark_released(held.name, devices)
            _reported(held.name)
        return changed, {**lost, "lease": held.facts()}

    def _in_place_of(self, held: Held, devices: Sequence[str]) -> tuple[bool, list[str], list[str]]:
        """Thaw what a guard has left frozen: whether there was anything, what was reached, and what
        was not."""
        changed, done, missed = False, [], []
        named = {each.device: each for each in self.set if each.fd >= 0}
        for member in _lease.left(held.record):
            device = member["device"]
            if device not in devices:
                continue
            try:
                each = named.get(device) or self._unnamed(member)
                if each is not None and member["method"] == "remount_ro":
                    each.remount()
            except QuiesceError as error:
                missed.append(device)
                self._told[device] = UNKNOWN
                self.warnings.append(
                    "%s is held by %s, and cannot be thawed in the place of its guard: %s"
                    % (shown(member["path"]), held.sentence(), error)
                )
                continue
            done.append(device)
            if each is not None:
                changed |= self._directly(each)
                self._told[device] = self._state(each)
        return changed, done, missed

    def _unnamed(self, member: dict[str, Any]) -> Filesystem | None:
        """What no path leads to any more, as after an unmount; None where it is gone."""
        place = _device.find(member)
        return None if place is None else Filesystem(place)

    def _ask_again(self, name: str, devices: list[str]) -> tuple[bool, dict[str, Any] | None]:
        for held in held_leases():
            if held.name == name:
                return self._ask(held, devices)
        return False, None

    def _past(self, devices: Sequence[str]) -> list[dict[str, Any]]:
        """How leases of these filesystems ended, that nobody was told of yet."""
        proofs = []
        for name in [self._lease] if self._lease else _lease.names():
            record = _lease.read(name)
            ended = record.get("ended") if record else None
            if not record or not ended or (ended["reported"] and not self._lease):
                continue
            if self._lease or any(each["device"] in devices for each in record["filesystems"]):
                proofs.append({**ended, "lease": record["lease"]})
                _reported(name)
        return proofs

    def _directly(self, each: Filesystem) -> bool:
        """One FITHAW, no more: a second could take away a freeze of the kernel's own."""
        try:
            if each.method != "remount_ro":
                return _ioctl.thaw(each.fd)
            if not os.fstatvfs(each.fd).f_flag & os.ST_RDONLY:
                return False
            _ioctl.set_read_only(each.fd, False)
        except OSError as error:
            raise QuiesceError(
                "%s could not be thawed: %s" % (each, _ioctl.meaning(error.errno or 0)),
                **self._result(False, dict(_NO_PROOF)),
            ) from error
        return True

    def _say_what_is_left(self) -> None:
        for each in self.set:
            if each.state in (THAWED, UNKNOWN):
                continue
            holder = (
                "not by lease %r, which is all that was asked for" % self._lease
                if self._lease
                else "by the kernel itself: device-mapper suspends it, or a freeze is under way"
            )
            self.warnings.append("%s is still %s, %s" % (each, each.state, holder))

    def _result(self, changed: bool, proof: dict[str, Any]) -> dict[str, Any]:
        for each in self.set:
            each.extra = {"pause": self._pauses.get(each.device)}
        filesystems = [each.facts() for each in self.set]
        known = {each.device for each in self.set}
        for device, member in self._remembered.items():
            if device not in known:
                shown = {key: member[key] for key in ("path", "mountpoint", "source", "fstype")}
                told = {"state": self._left(device), "pause": self._pauses.get(device)}
                filesystems.append({**shown, "device": device, "before": FROZEN, **told})
        return {
            "changed": changed,
            "filesystems": filesystems,
            "diff": difference(self.set),
            **{key: proof[key] for key in _NO_PROOF},
        }

    def _left(self, device: str) -> str:
        """State of a filesystem that only its guard can still reach."""
        held = [lease for lease in held_leases() if lease.holds(device)]
        return FROZEN if held else self._told.get(device, THAWED)


def without_guard(paths: Sequence[str], lease: str) -> list[str]:
    """Thaw what a guard has frozen that does not answer any more; warnings.

    It is killed, so that its second process thaws, also what is being frozen just now.
    """
    kill(lease)
    _lease.wait_for_end(lease, _SECOND_SECONDS)
    try:
        thaw = Thaw(paths, lease)
        thaw.thaw()
    except QuiesceError as error:
        return [str(error)]
    return thaw.warnings


def _reported(lease: str) -> None:
    """Note that somebody was told; if /run cannot be written to, it is told once more."""
    with contextlib.suppress(OSError):
        _lease.mark_reported(lease)


def _together(proofs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One answer for the leases that were thawed; usually there is just one."""
    if not proofs:
        return dict(_NO_PROOF)
    broken = [proof for proof in proofs if not proof["held"]]
    return {**(broken or list(proofs))[0], "held": not broken}
