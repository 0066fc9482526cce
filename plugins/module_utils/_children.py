# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The children of a guard: the freezer, which may get stuck, and the witnesses, which sleep."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Callable, NoReturn, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils import _ioctl
from ansible_collections.quiesce.storage.plugins.module_utils._board import (
    FAILED,
    FROZEN,
    NO_WITNESS,
    STARTED,
    Board,
    Row,
)
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

# A further flush is worth its while only above this; below it a freeze's own flush is
# as short (measured: the floor of a freeze is 25 to 40 ms).
_FLUSHED_SECONDS = 0.2
_FLUSH_ROUNDS = 5
# A freeze takes one grace period of the kernel's RCU (measured: 30 to 40 ms), and less
# than a millisecond right after a thaw: then the witness may come too late, and one
# pause of a grace period lets the next attempt take its full time.
_ATTEMPTS = 5
_GRACE_SECONDS = 0.05
_WITNESS_SECONDS = 1.0
_STACK_BYTES = 256 << 10


class Member:
    """One filesystem of the set, as the guard's processes know it."""

    def __init__(self, fd: int, directory: bool, remount: bool, level: int) -> None:
        self.fd = fd
        self.directory = directory
        self.remount = remount
        # Members of one level are not stored on each other.
        self.level = level
        # The process in which a witness sleeps on it, and the pipe that starts it; 0 is none.
        self.witness = 0
        self.wake = 0
        self.start = 0


def fork(body: Callable[[], None], keep: Sequence[int], session: bool = False) -> int:
    """Run ``body`` in a child that has no descriptors but ``keep``; its pid.

    With ``session`` it is a grandchild in a session of its own: nothing that is
    done to our children, process group or session reaches it. The pid is then 0.
    """
    pid = os.fork()
    if pid:
        if session:
            os.waitpid(pid, 0)
            return 0
        return pid
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN if session else signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        if session:
            os.setsid()
            if os.fork():
                os._exit(0)
        _close_all_but(keep)
        body()
        os._exit(0)
    finally:
        os._exit(1)


def _close_all_but(keep: Sequence[int]) -> None:
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                # The descriptor of the listing itself, closed already.
                pass


def asleep(pid: int, task: int = 0) -> bool:
    """Whether a process, or one task of it, is in uninterruptible sleep (state D)."""
    try:
        with open("/proc/%d/task/%d/stat" % (pid, task or pid), "rb") as stream:
            return stream.read().rpartition(b")")[2].split()[0] == b"D"
    except OSError:
        return False


def change_nothing(fd: int, directory: bool) -> None:
    """Remove a name (of a file's, an attribute) that does not exist.

    On a frozen filesystem the kernel waits for the thaw before it looks.
    """
    name = ".quiesce-" + os.urandom(16).hex()
    try:
        if directory:
            os.unlink(name, dir_fd=fd)
        else:
            os.removexattr(fd, "user." + name)
    except OSError:
        # There is no such name; what matters is when the call ended.
        pass


def freezer(
    board: Board,
    members: Sequence[Member],
    report: int,
    go: int,
    flush_timeout: float,
) -> NoReturn:
    """Flush all, say so, wait for the word, freeze one after another, say so."""
    if flush_timeout:
        _flush(board, members, flush_timeout)
    os.write(report, b"F")
    if os.read(go, 1):
        for row, member in zip(board.rows, members):
            if board.header.stop:
                break
            row.started = now()
            row.status = STARTED
            try:
                _freeze(row, member)
            except OSError as error:
                row.errno = error.errno or 0
                row.status = FAILED
                break
            row.done = now()
            row.status = FROZEN
        os.write(report, b"D")
    os._exit(0)


def _flush(board: Board, members: Sequence[Member], budget: float) -> None:
    """Flush each until another round no longer helps, or the budget is used up."""
    end = now() + budget
    for row, member in zip(board.rows, members):
        last = None
        for _round in range(_FLUSH_ROUNDS):
            began = now()
            if began >= end or board.header.stop:
                return
            try:
                _ioctl.flush(member.fd)
            except OSError:
                # The freeze flushes as well and answers for it.
                break
            took = now() - began
            row.flush_seconds += took
            if took < _FLUSHED_SECONDS or (last is not None and took > last * 0.8):
                break
            last = took


def _freeze(row: Row, member: Member) -> None:
    if member.remount:
        _ioctl.set_read_only(member.fd, True)
        return
    if not member.witness:
        _ioctl.freeze(member.fd)
        return
    os.write(member.start, b"W")
    _wait(lambda: row.completed > 0, _WITNESS_SECONDS)
    for _attempt in range(_ATTEMPTS):
        _ioctl.freeze(member.fd)
        returned = now()
        call = row.entering
        # Unbroken from the very start: the witness had begun its call before the freeze
        # was complete, has not ended it, and sleeps in it.
        if row.completed == call - 1 and row.entered <= returned:
            _wait(
                lambda: asleep(member.witness, row.task) or row.completed != row.entering - 1,
                _WITNESS_SECONDS,
            )
            if asleep(member.witness, row.task) and row.completed == call - 1:
                row.armed = call
                return
        _ioctl.thaw(member.fd)
        time.sleep(_GRACE_SECONDS)
    raise OSError(NO_WITNESS, "no witness")


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = now() + seconds
    while not condition() and now() < end:
        time.sleep(0.0001)


def witnesses(board: Board, members: Sequence[Member], bell: int) -> None:
    """A thread for each member that is to be watched; ``bell`` is rung when one wakes.

    They are threads of one process, which is not the guard's: a killed guard is reaped
    at once, whatever sleeps here.
    """
    threading.stack_size(_STACK_BYTES)
    threads = [
        threading.Thread(target=_witness, args=(board, row, member, bell))
        for row, member in zip(board.rows, members)
        if member.wake
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _witness(board: Board, row: Row, member: Member, bell: int) -> None:
    """Sleep in a call that only a thaw can end."""
    row.task = threading.get_native_id()
    if not os.read(member.wake, 1):
        return
    call = 0
    while not (board.header.stop or row.armed):
        call += 1
        row.entered = now()
        row.entering = call
        change_nothing(member.fd, member.directory)
        row.completed = call
    row.woke = now()
    os.write(bell, b"W")
