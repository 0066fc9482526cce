# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The freezer: the child of a guard that flushes and freezes, and may get stuck in that.

Filesystems that are not stored on each other are flushed, and frozen, at the same time: the pause
of a set is then about as long as that of one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import threading
import time
from typing import Callable, Iterator, NoReturn, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _ioctl
from ansible_collections.quiesce.storage.plugins.module_utils._board import (
    FAILED,
    FROZEN,
    NO_WITNESS,
    STARTED,
    Board,
    Row,
)
from ansible_collections.quiesce.storage.plugins.module_utils._children import (
    Member,
    asleep,
    let_go,
)
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now
from ansible_collections.quiesce.storage.plugins.module_utils._last import Last
from ansible_collections.quiesce.storage.plugins.module_utils._worker import Worker

FLUSH, FREEZE = b"L", b"G"
"""What a freezer is told: to flush once more, or to freeze."""
FLUSHED, DONE = b"F", b"D"
"""What it says: the flush is over; all are frozen, or one could not be."""

# A further flush is worth its while only above this; below it a freeze's own flush is
# as short (measured: the floor of a freeze is 25 to 40 ms).
_FLUSHED_SECONDS = 0.2
_FLUSH_ROUNDS = 5
# A freeze takes one grace period of the kernel's RCU (measured: 30 to 40 ms), and less than a
# millisecond right after a thaw: then the witness may come too late. So it may on a host with one
# processor, which has no grace periods: an idle btrfs is frozen there before anybody else runs.
_ROUNDS = 3
# Enough of a pause for the next freeze to take its full time.
_GRACE_SECONDS = 0.05
# Between two looks at whether anybody of the guard is left.
_LOOK_SECONDS = 0.1
# For a witness to begin its call. A later one is seen to be late.
_BEGIN_SECONDS = 0.02
# For a witness that has begun to be seen asleep. It takes a moment, but for one that gets no
# processor; how long all of it may take is for the guard to say.
_ASLEEP_SECONDS = 5.0


def freezer(
    board: Board,
    members: Sequence[Member],
    report: int,
    orders: int,
    flush_timeout: float,
    last: Last,
) -> NoReturn:
    """Flush, say so, and do what is ordered until there are no more orders, or all are frozen."""
    team = _Team(board, members, last)
    if flush_timeout:
        team.flush(flush_timeout)
    os.write(report, FLUSHED)
    word = os.read(orders, 1)
    while word == FLUSH:
        team.flush_once()
        os.write(report, FLUSHED)
        word = os.read(orders, 1)
    if word:
        team.freeze()
        with contextlib.suppress(BrokenPipeError):
            os.write(report, DONE)
        team.wait()
        last.finish()
    let_go(members)
    os._exit(0)


class _NotThawedError(OSError):
    """What froze, but could not be watched, could not be thawed either."""


class _Team:
    """A thread for each member, since a call that blocks must not keep the others waiting."""

    def __init__(self, board: Board, members: Sequence[Member], last: Last) -> None:
        self._board = board
        self._last = last
        self._members = members
        self._work: Callable[[int], None] = self._flush
        self._done = threading.Semaphore(0)
        self._workers = [
            Worker(functools.partial(self._do, number)) for number in range(len(members))
        ]
        levels = sorted({member.level for member in members})
        self._levels = [
            [number for number, member in enumerate(members) if member.level == level]
            for level in levels
        ]

    def flush(self, budget: float) -> None:
        """Flush all until another round no longer helps, or one may not begin any more."""
        end, last = now() + budget, None
        for _round in range(_FLUSH_ROUNDS):
            began = now()
            if began >= end or self._stopped():
                return
            self.flush_once()
            took = now() - began
            if took < _FLUSHED_SECONDS or (last is not None and took > last * 0.8):
                return
            last = took

    def flush_once(self) -> None:
        """Flush all, each before what it is stored on."""
        self._work = self._flush
        for level in self._levels:
            self._have_done(level)

    def freeze(self) -> None:
        """Freeze all, each before what it is stored on; none any more once one has failed.

        What is under way then cannot be stopped, and is waited for: it has to be thawed, too.
        """
        self._work = self._freeze
        for level in self._levels:
            self._have_done(level)
            if self._board.refused():
                return

    def wait(self) -> None:
        """Until nothing is under way."""
        for worker in self._workers:
            while not worker.wait(_LOOK_SECONDS):
                self._last.look()

    def _have_done(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._workers[number].wait()
            self._workers[number].ask()
        for _number in numbers:
            while not self._done.acquire(timeout=_LOOK_SECONDS):
                self._last.look()

    def _stopped(self) -> bool:
        return bool(self._board.header.stop) or self._last.alone()

    def _do(self, number: int) -> None:
        try:
            self._work(number)
        finally:
            self._done.release()

    def _flush(self, number: int) -> None:
        row, began = self._board.rows[number], now()
        try:
            _ioctl.flush(self._members[number].fd)
        except OSError:
            # The freeze flushes as well and answers for it.
            return
        row.flush_seconds += now() - began

    def _freeze(self, number: int) -> None:
        row = self._board.rows[number]
        early = self._board.header.start - now()
        if early > 0:
            time.sleep(early)
        if self._stopped() or self._board.refused():
            return
        row.started = now()
        row.status = STARTED
        try:
            row.done = self._freeze_watched(row, self._members[number])
        except OSError as error:
            row.errno = error.errno or errno.EIO
            # What could not be thawed again is for the guard to thaw.
            row.status = FROZEN if isinstance(error, _NotThawedError) else FAILED
            return
        row.status = FROZEN

    def _freeze_watched(self, row: Row, member: Member) -> float:
        """When it was frozen."""
        if member.remount:
            _ioctl.set_read_only(member.fd, True)
            return now()
        if not member.witness:
            _ioctl.freeze(member.fd)
            return now()
        begun = row.entering
        os.write(member.start, b"W")
        _wait(lambda: row.entering > begun, _BEGIN_SECONDS)
        for _round in range(_ROUNDS):
            for attempt in (_freeze, _freeze_again):
                returned = attempt(row, member)
                # Where the set is given up, the guard thaws, and does not wait for a witness.
                if _armed(row, member, returned, self._stopped) or self._stopped():
                    return returned
            _undo(member.fd)
            time.sleep(_GRACE_SECONDS)
            if self._stopped():
                break
        raise OSError(NO_WITNESS, "no witness")


def _freeze(row: Row, member: Member) -> float:
    """When the kernel said that it is frozen."""
    row.calling = now()
    _ioctl.freeze(member.fd)
    return now()


def _freeze_again(row: Row, member: Member) -> float:
    """Thaw what the witness was late for, and freeze it at once; when the kernel said that it is.

    By now the witness sleeps on it. A thaw lets its call go on, and a freeze waits for the end of
    that: meanwhile the next call begins.
    """
    _wait(lambda: asleep(member.witness, row.task), _BEGIN_SECONDS)
    with _in_turn(0, row.task):
        # The witness is not to rest when it wakes, which may be before the kernel is asked.
        row.calling = now() + _BEGIN_SECONDS
        _undo(member.fd)
        _ioctl.freeze(member.fd)
        return now()


@contextlib.contextmanager
def _in_turn(*threads: int) -> Iterator[None]:
    """Have none of these threads (0: this one) take the processor from another when it wakes."""
    turns = [each for each in threads if _scheduled(each, os.SCHED_OTHER, os.SCHED_BATCH)]
    try:
        yield
    finally:
        for each in turns:
            _scheduled(each, os.SCHED_BATCH, os.SCHED_OTHER)


def _scheduled(thread: int, before: int, policy: int) -> bool:
    """Whether a thread that was scheduled by the policy ``before`` is by ``policy`` now."""
    try:
        if os.sched_getscheduler(thread) != before:
            return False
        os.sched_setscheduler(thread, policy, os.sched_param(0))
    except OSError:
        # It has ended, or this is not allowed here: the order is only less certain then.
        return False
    return True


def _armed(row: Row, member: Member, returned: float, stopped: Callable[[], bool]) -> bool:
    """Whether the freeze is unbroken from the very start, and watched.

    The witness had begun its call before the freeze was complete, has not ended it, and sleeps.
    For that it is waited for, unless ``stopped``.
    """
    call = row.entering

    def still() -> bool:
        return row.completed == call - 1

    if not still() or row.entered > returned:
        return False
    _wait(lambda: asleep(member.witness, row.task) or not still() or stopped(), _ASLEEP_SECONDS)
    if asleep(member.witness, row.task) and still():
        row.armed = call
    return row.armed == call


def _undo(fd: int) -> None:
    """Thaw what could not be watched, where nobody else has done so just now."""
    try:
        _ioctl.thaw(fd)
    except OSError as error:
        raise _NotThawedError(*error.args) from error


def _wait(condition: Callable[[], object], seconds: float) -> None:
    """Look again and again, but ever more slowly.

    What is waited for may want the processor that looking takes.
    """
    end, pause = now() + seconds, 0.0001
    while not condition() and now() < end:
        time.sleep(pause)
        pause = min(2 * pause, 0.002)
