# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``state=frozen``: from paths to a lease, or to nothing at all."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, Callable, NamedTuple, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _filesystems, _ioctl, _lease
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError
from ansible_collections.quiesce.storage.plugins.module_utils._filesystems import Filesystem
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import (
    Conversation,
    Held,
    ask,
    held_leases,
    start,
)
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    MountTable,
    locate,
    read_only,
)
from ansible_collections.quiesce.storage.plugins.module_utils._order import levels
from ansible_collections.quiesce.storage.plugins.module_utils._process import require_privilege
from ansible_collections.quiesce.storage.plugins.module_utils._refusals import REASONS
from ansible_collections.quiesce.storage.plugins.module_utils._stack import Stack
from ansible_collections.quiesce.storage.plugins.module_utils._states import (
    States,
    sleeping_may_panic,
)
from ansible_collections.quiesce.storage.plugins.module_utils._superblock import (
    FROZEN,
    THAWED,
    UNKNOWN,
)
from ansible_collections.quiesce.storage.plugins.module_utils._unfreeze import without_guard

_MAX_TIMEOUT = 86400
# A guard keeps its own limits. One that says nothing for so long after them is stopped, or worse.
_SILENT_SECONDS = 20.0
_OUTSIDE = (
    "somebody outside of this collection (fsfreeze -f, a guest agent, a storage tool: no lease "
    "of this host has it)"
)
_GONE = "one that has ended by now, so that another attempt may succeed"


class Wish(NamedTuple):
    """What the caller asked for, as the options of the module."""

    paths: list[str]
    timeout: int
    lease: str
    freeze_timeout: int
    flush: bool
    flush_timeout: int
    unsupported: str
    tied: bool = False
    # Seconds since 1970, if the freeze is to begin at an agreed time; 0: it is to be agreed on.
    at: float | None = None


def check_wish(wish: Wish) -> None:
    """``QuiesceError`` for an option out of its range, before anything is touched."""
    for name, value, low in (
        ("timeout", wish.timeout, 0),
        ("freeze_timeout", wish.freeze_timeout, 1),
        ("flush_timeout", wish.flush_timeout, 1),
    ):
        if not low <= value <= _MAX_TIMEOUT:
            raise QuiesceError(
                "%s must be %d to %d seconds, and %d is not" % (name, low, _MAX_TIMEOUT, value)
            )
    if wish.lease:
        _lease.check_name(wish.lease)


class Freeze:
    """A set on its way to being frozen."""

    def __init__(self, wish: Wish) -> None:
        """Resolve the set and look at it; nothing is changed by this.

        ``QuiesceError``: a path that does not do, or a filesystem that cannot be frozen.
        """
        check_wish(wish)
        require_privilege()
        self.wish = wish
        self.warnings: list[str] = []
        self.left_out: list[dict[str, Any]] = []
        chosen = _filesystems.resolve(wish.paths)
        _filesystems.refuse_root_by_accident(chosen, wish.paths)
        self._table = MountTable()
        _filesystems.refuse_covered(chosen, self._table)
        self._leases = held_leases()
        self._states = States(self._leases)
        self._stack = Stack(self._table)
        self.set = self._ordered(self._supported(chosen))
        self.look(before=True)
        if not self.set:
            self.warnings.append("nothing is left to freeze: every filesystem was skipped")

    def _supported(self, chosen: Sequence[Filesystem]) -> list[Filesystem]:
        kept = []
        for each in chosen:
            reason = _filesystems.unsupported(each.mount, each.fd, self._states.reader)
            if reason and self._states.held_read_only(each.device):
                each.method = "remount_ro"
                reason = None
            if reason is None:
                kept.append(each)
            elif self.wish.unsupported == "skip":
                self.left_out.append({**each.facts(), "reason": reason})
                self.warnings.append("%s was left out: it %s" % (each, reason))
            elif self.wish.unsupported == "remount_ro" and not read_only(each.mount):
                each.remount()
                kept.append(each)
            else:
                others = "" if read_only(each.mount) else " or 'remount_ro'"
                raise QuiesceError(
                    "%s %s; leave it out, or set 'unsupported' to 'skip'%s" % (each, reason, others)
                )
        return kept

    def _ordered(self, chosen: Sequence[Filesystem]) -> list[Filesystem]:
        by_device = {each.device: each for each in chosen}
        ordered = []
        for device, level in levels(by_device, self._stack.filesystems_below):
            by_device[device].level = level
            ordered.append(by_device[device])
        for mount in self._stack.stored_on(by_device):
            self.warnings.append(
                "%s (%s on %s) is stored on a filesystem of this set but is not in it: what it "
                "has not written yet will be missing from a snapshot, and its writers will wait"
                % (mount.mountpoint, mount.fstype, mount.source)
            )
        return ordered

    def look(self, before: bool = False) -> None:
        for each in self.set:
            each.state, each.evidence = self._states.of(each.fd, each.directory, each.device)
            if before:
                each.before = each.state

    # What there is to do

    def settled(self) -> dict[str, Any] | None:
        """The answer, where the set is frozen already, by this lease or by others; else None.

        ``QuiesceError``: some of it is held by somebody else.
        """
        held = [each for each in self.set if each.before not in (THAWED, UNKNOWN)]
        own = next((lease for lease in self._leases if lease.name == self.wish.lease), None)
        if own is not None:
            return self._own(own)
        if not held:
            return None
        names = [
            "%s is %s, by %s" % (each, each.before, holder)
            for each, holder in zip(held, self._holders(held))
        ]
        if self.wish.lease or len(held) < len(self.set):
            waiting = ", or wait for its deadline" if all(map(self._will_end, held)) else ""
            raise QuiesceError(
                "nothing was changed: %s. Thaw it first (state=thawed)%s"
                % ("; ".join(names), waiting),
                **self.result(False),
            )
        self.warnings.extend(names)
        holder = self._lease_of(held[0])
        return self.result(False, holder.facts() if holder else None)

    def _own(self, own: Held) -> dict[str, Any]:
        if own.status is not None and own.status["phase"] == "ended":
            raise QuiesceError(
                "nothing was changed: lease %r has ended, and its guard (pid %s) still waits for "
                "the kernel to let go of a filesystem; use another name"
                % (own.name, own.facts().get("guard_pid")),
                **self.result(False, own.facts()),
            )
        missing = [each for each in self.set if not own.holds(each.device)]
        if missing:
            each = missing[0]
            known = {one["device"]: one for one in (own.status or own.record)["filesystems"]}
            why = "is in use and does not hold %s" % each
            if each.device in known:
                by_others = known[each.device].get("broken", True)
                by = "by somebody else" if by_others else "on request"
                why = "held %s, and it was thawed %s" % (each, by)
            raise QuiesceError(
                "nothing was changed: lease %r %s. Thaw the lease first (state=thawed, lease=%s)"
                % (own.name, why, own.name),
                **self.result(False, own.facts()),
            )
        if own.status is None or not own.status["held"]:
            raise QuiesceError(
                "nothing was changed: %s is broken, and cannot be renewed. Thaw it "
                "(state=thawed, lease=%s) and freeze again" % (own.sentence(), own.name),
                **self.result(False, own.facts()),
            )
        return self.result(False, own.facts(), renew=own.name)

    def _will_end(self, each: Filesystem) -> bool:
        """Whether somebody is there to thaw it at a deadline."""
        lease = self._lease_of(each)
        return lease is not None and lease.will_end()

    def _lease_of(self, each: Filesystem) -> Held | None:
        device = each.device
        holders = (one for one in self._leases if one.holds(device) or one.freezes(device))
        return next(holders, None)

    def _holders(self, frozen: Sequence[Filesystem]) -> list[str]:
        """Who holds each of these."""
        if not all(map(self._lease_of, frozen)):
            # It may not have been held yet when we looked.
            self._leases = held_leases()
        return [self._holder(each) for each in frozen]

    def _holder(self, each: Filesystem) -> str:
        lease = self._lease_of(each)
        if lease is not None:
            return lease.sentence()
        thawed = self._states.of(each.fd, each.directory, each.device)[0] == THAWED
        return _GONE if thawed else _OUTSIDE

    def renew(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Renew the deadline of a lease that holds the set; the answer with the new one."""
        name = answer.pop("renew", None)
        if name:
            renewed = ask(name, {"op": "renew", "timeout": self.wish.timeout})
            if not renewed or not renewed.get("ok"):
                raise QuiesceError(
                    "lease %r was lost while it was being renewed; freeze again" % name, **answer
                )
            answer["lease"] = renewed["lease"]
        return answer

    def predict(self) -> dict[str, Any]:
        """Check mode: what would be returned."""
        unknown = [str(each) for each in self.set if each.before == UNKNOWN]
        if unknown:
            self.warnings.append(
                "it is not known whether %s is frozen (%s), so a change is assumed"
                % (", ".join(unknown), self._states.reason or "the kernel did not say")
            )
        for each in self.set:
            each.state = FROZEN
        return self.result(bool(self.set))

    def freeze(
        self, use: Callable[[Conversation], None] = lambda _conversation: None
    ) -> tuple[dict[str, Any], Conversation | None]:
        """Freeze the set under a guard; the answer, and the conversation with the guard.

        ``use`` is called the moment that all is frozen.
        """
        if not self.set:
            return self.result(False), None
        if not self.wish.tied:
            self.refuse_own_files()
        name = self.wish.lease or "auto-" + os.urandom(6).hex()
        conversation = self.start(name)
        event = self.hear(name, conversation, self.wish.freeze_timeout)
        if event is None or event.get("event") != "frozen":
            conversation.close()
            self.look()
            if self._found_frozen(event):
                return self.result(False), None
            raise QuiesceError(self.why(name, event), **self.result(False))
        use(conversation)
        return self.frozen(event), conversation

    def hear(self, name: str, conversation: Conversation, more: float) -> dict[str, Any] | None:
        """What the guard says when it has flushed, which may take ``more`` seconds, and None where
        it was lost. ``QuiesceError``: it is silent, and whatever it had frozen is thawed."""
        flush = self.wish.flush_timeout if self.wish.flush else 0
        patience = flush + self.wish.freeze_timeout + more + _SILENT_SECONDS
        event = conversation.receive(patience)
        if conversation.silent:
            conversation.close()
            self.warnings.extend(without_guard(self.wish.paths, name))
            self.look()
            silent = {"failure": {"reason": "silent"}}
            raise QuiesceError(self.why(name, silent), **self.result(False))
        return event

    def start(self, name: str) -> Conversation:
        """Start a guard for the set."""
        return start(self._request(name), [each.fd for each in self.set])

    def frozen(self, event: dict[str, Any]) -> dict[str, Any]:
        """The answer, once the guard has said that all is frozen."""
        self.look()
        for each, report in zip(self.set, event["filesystems"]):
            # The kernel does not call frozen what was made read-only in the place of that.
            if each.state == UNKNOWN or each.method == "remount_ro":
                each.state = FROZEN
            each.extra = {key: report[key] for key in ("flush_seconds", "freeze_seconds")}
        if not event["proof"]:
            self.warnings.append(
                "kernel.hung_task_panic is set and the kernel's state cannot be read (%s): nothing "
                "can prove here that the freeze holds" % self._states.reason
            )
        return self.result(True, event["lease"])

    def refuse_own_files(self) -> None:
        """Ansible removes the file that it brought us in after our answer: that must not wait."""
        archive = getattr(sys.modules[__name__].__loader__, "archive", None)
        if archive is None or not os.path.exists(archive):
            return
        place = locate(archive)
        os.close(place.fd)
        for each in self.set:
            if each.device == place.mount.device:
                raise QuiesceError(
                    "nothing was frozen: Ansible's own files (%s) are on %s, and this task could "
                    "not end while it is frozen. Set TMPDIR to a tmpfs for this task, such as "
                    "/dev/shm; the action plugins of this collection do so" % (archive, each),
                    **self.result(False),
                )

    def _request(self, name: str) -> dict[str, Any]:
        return {
            "lease": name,
            "timeout": self.wish.timeout,
            "freeze_timeout": self.wish.freeze_timeout,
            "flush_timeout": self.wish.flush_timeout if self.wish.flush else 0,
            "tied": self.wish.tied,
            "at": self.wish.at,
            "sleep": not sleeping_may_panic(),
            "filesystems": [
                {
                    **each.facts(),
                    "method": each.method,
                    "directory": each.directory,
                    "remount": each.method == "remount_ro",
                    "level": each.level,
                    "devices": self._stack.devices(each.mount),
                }
                for each in self.set
            ],
        }

    def _found_frozen(self, event: dict[str, Any] | None) -> bool:
        """Whether FIFREEZE told what could not be read before: it is frozen, by somebody else."""
        failure = (event or {}).get("failure") or {}
        if failure.get("errno") != errno.EBUSY or self.wish.lease or len(self.set) > 1:
            return False
        (only,) = self.set
        if only.before != UNKNOWN or only.method != "freeze":
            return False
        only.before = only.state = FROZEN
        self.warnings.append("%s is frozen, by %s" % (only, self._holders([only])[0]))
        return True

    def why(self, name: str, event: dict[str, Any] | None) -> str:
        """The sentence for a freeze that did not come about."""
        failure = (event or {}).get("failure") or {"reason": "lost"}
        row = failure.get("row")
        which = str(self.set[row]) if row is not None else "the set"
        reason = failure["reason"]
        if reason == "errno":
            cause = _ioctl.meaning(failure["errno"])
            if failure["errno"] == errno.EBUSY:
                refused = self.set[failure["row"]]
                cause = "it is held by " + self._holders([refused])[0]
                if refused.method == "remount_ro":
                    cause = "it cannot be made read-only while a file on it is open for writing"
            why = "%s could not be frozen: %s" % (which, cause)
        else:
            why = REASONS.get(reason, "the guard failed: %s" % failure.get("error", reason)) % {
                "which": which,
                "lease": name,
                "rival": failure.get("rival"),
                "freeze_timeout": self.wish.freeze_timeout,
                "timeout": self.wish.timeout,
                "flush": self.wish.flush_timeout,
            }
        if reason in ("no_room", "rival"):
            return why + "; nothing was frozen"
        return why + "; whatever was frozen of the set has been thawed"

    def result(
        self, changed: bool, lease: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        """What the module returns."""
        return {
            "changed": changed,
            "filesystems": [each.facts() for each in self.set],
            "left_out": self.left_out,
            "lease": lease,
            "diff": _filesystems.difference(self.set),
            **more,
        }
