# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``at``: a freeze that is armed now and begins at an agreed time, for sets that span hosts."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any, Callable

from ansible_collections.quiesce.storage.plugins.module_utils import _lease
from ansible_collections.quiesce.storage.plugins.module_utils._appointment import NEAR_SECONDS, same
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._freeze import Freeze
from ansible_collections.quiesce.storage.plugins.module_utils._guard_client import (
    Conversation,
    Held,
    ask,
    converse,
)

LATER = "later"
_MOST_SECONDS = 86400
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z")
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r"([Zz]|[+-][0-9]{2}:?[0-9]{2})?\Z"
)
# Beyond what the freeze itself may take, for the guard to say so.
_PATIENCE_SECONDS = 5.0


def moment(text: str) -> float:
    """Seconds since 1970 of a time in ISO 8601 with its offset, or given as such seconds.

    0 for ``later``. ``QuiesceError``: it is no time, or without an offset, or over a day ahead.
    """
    if text == LATER:
        return 0.0
    try:
        at = float(text) if _SECONDS.match(text) else _iso(text)
        if at <= 0:
            raise ValueError("1970 is over")
    except (ValueError, OverflowError) as error:
        raise QuiesceError(
            "at: %s is not a time such as 2026-11-21T01:05:55.5Z or 1795223155.5 (%s)"
            % (shown(text), error)
        ) from error
    if at > time.time() + _MOST_SECONDS:
        raise QuiesceError("at: %s is more than a day ahead by the clock of this host" % text)
    return at


def _iso(text: str) -> float:
    found = _ISO.match(text)
    if not found:
        raise ValueError("neither ISO 8601 nor a number of seconds")
    day, clock, fraction, offset = found.groups()
    if not offset:
        raise ValueError("without an offset from UTC, it is another time on every host")
    # Before Python 3.11 this is all that fromisoformat takes: six digits, and a colon.
    digits = (fraction or "").ljust(6, "0")[:6]
    offset = "+00:00" if offset in "Zz" else "%s:%s" % (offset[:3], offset[-2:])
    return datetime.fromisoformat("%sT%s.%s%s" % (day, clock, digits, offset)).timestamp()


class AgreedFreeze(Freeze):
    """A set that is frozen at a time.

    The first call arms a guard, which flushes, and freezes at that time. A call before then can
    agree on another time. One after it waits for the freeze and tells what came of it.
    """

    @property
    def _at(self) -> float:
        return self.wish.at or 0.0

    def settled(self) -> dict[str, Any] | None:
        """As of a freeze; and the answer of a call that finds the lease armed."""
        own = next((lease for lease in self._leases if lease.name == self.wish.lease), None)
        phase = own.status["phase"] if own is not None and own.status else None
        if own is not None and phase in _lease.BEFORE:
            return self._armed(own)
        if own is None and 0 < self._at <= time.time():
            ended = (_lease.read(self.wish.lease) or {}).get("ended") or {}
            if ended.get("failure"):
                raise QuiesceError(self.why(self.wish.lease, ended), **self.result(False))
            raise QuiesceError(
                "the time agreed (at) has passed by the clock of this host, and no guard is armed "
                "for it under lease %r; nothing was frozen" % self.wish.lease,
                **self.result(False),
            )
        return super().settled()

    def _armed(self, own: Held) -> dict[str, Any]:
        missing = [each for each in self.set if not own.covers(each.device)]
        if missing:
            raise QuiesceError(
                "nothing was changed: lease %r is armed, and %s is not of its set. Thaw the lease "
                "first (state=thawed, lease=%s)" % (own.name, missing[0], own.name),
                **self.result(False, own.facts()),
            )
        if not self._at:
            return self.result(False, own.facts(), armed=True)
        before = own.facts().get("at")
        changed = before is None or not same(moment(before), self._at)
        left = self._at - time.time()
        if changed and left <= 0:
            raise QuiesceError(
                "nothing was changed: the time agreed (at) has passed by the clock of this host, "
                "and lease %r is armed %s. Agree on a later one, or thaw the lease (state=thawed, "
                "lease=%s)" % (own.name, "for %s" % before if before else "for none yet", own.name),
                **self.result(False, own.facts()),
            )
        if left <= 0 or (left < NEAR_SECONDS and not changed):
            return self.result(True, own.facts(), wait=own.name)
        return self.result(changed, own.facts(), armed=True, agree=own.name)

    def renew(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Carry out what ``settled`` found to do."""
        waiting, agreeing = answer.pop("wait", None), answer.pop("agree", None)
        if waiting:
            return self._wait(waiting)
        if not agreeing:
            return super().renew(answer)
        agreed = ask(agreeing, {"op": "agree", "at": self._at})
        if not agreed or not agreed.get("ok"):
            raise QuiesceError(
                "lease %r could not be armed for another time: it is not armed (any more), or "
                "begins to freeze just now" % agreeing,
                **answer,
            )
        answer["lease"] = agreed["lease"]
        return answer

    def _wait(self, name: str) -> dict[str, Any]:
        conversation = converse(name)
        said = conversation.request({"op": "listen"}) if conversation else None
        left = max(0.0, self._at - time.time())
        end = now() + left + self.wish.freeze_timeout + _PATIENCE_SECONDS
        while said and said.get("phase") in _lease.BEFORE:
            said = conversation.receive(max(0.0, end - now())) if conversation else None
        if conversation:
            conversation.close()
        if not said or said.get("phase") != _lease.HOLDING:
            self.look()
            failure = said if said and said.get("failure") else None
            record = (_lease.read(name) or {}).get("ended")
            raise QuiesceError(self.why(name, failure or record), **self.result(False))
        return self.frozen(said)

    def freeze(
        self, use: Callable[[Conversation], None] = lambda _conversation: None
    ) -> tuple[dict[str, Any], Conversation | None]:
        """Arm a guard; the answer comes when it has flushed."""
        if not self.set:
            return self.result(False), None
        self.refuse_own_files()
        name = self.wish.lease
        conversation = self.start(name)
        event = self.hear(name, conversation, 0)
        conversation.close()
        if event is None or event.get("event") != "armed":
            self.look()
            raise QuiesceError(self.why(name, event), **self.result(False))
        return self.result(True, event["lease"], armed=True), None
