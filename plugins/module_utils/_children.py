# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The children of a guard, and the witnesses among them, which sleep."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from typing import Callable, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils._board import Board, Row
from ansible_collections.quiesce.storage.plugins.module_utils._clock import now

_STACK_BYTES = 256 << 10
# A witness calls until the freeze catches a call. A freeze right after a thaw is complete within a
# millisecond; any other lets no write begin for two thirds of its time.
_BUSY_SECONDS = 0.001
_REST_SECONDS = 0.004


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
    done to our children, process group or session reaches it. The pid is then that of the child,
    which ends at once.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN if session else signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        if session:
            os.setsid()
            if os.fork():
                os._exit(0)
        close_all_but(keep)
        body()
        os._exit(0)
    finally:
        os._exit(1)


def close_all_but(keep: Sequence[int]) -> None:
    """Close every descriptor of this process but these."""
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                # The descriptor of the listing itself, closed already.
                pass


def closed(pipe: int, seconds: float) -> bool:
    """Whether nobody has the other end of a pipe open any more, waiting for it that long."""
    poller = select.poll()
    poller.register(pipe, 0)
    # The first is what a reader gets, the second what a writer gets.
    gone = select.POLLHUP | select.POLLERR
    return any(event & gone for _fd, event in poller.poll(seconds * 1000))


def let_go(members: Sequence[Member]) -> None:
    """Close the filesystems, of which this process wants nothing any more.

    An exit does it too, but in no order: who waits for the end of our pipe could come before it.
    """
    for member in members:
        with contextlib.suppress(OSError):
            os.close(member.fd)


def asleep(pid: int, task: int = 0) -> bool | None:
    """Whether a process, or one task of it, is in uninterruptible sleep (state D).

    None where that cannot be seen, as without a free descriptor.
    """
    try:
        return _state(pid, task or pid) == b"D"
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return None


def end_if_stopped(pid: int) -> None:
    """Kill a process that has been stopped, or that a tracer holds: it would not end by itself."""
    with contextlib.suppress(OSError):
        tasks = [int(name) for name in os.listdir("/proc/%d/task" % pid)]
        if {b"T", b"t"} & {_state(pid, task) for task in tasks}:
            os.kill(pid, signal.SIGKILL)


def _state(pid: int, task: int) -> bytes:
    """The letter of a task's state, see proc(5)."""
    with open("/proc/%d/task/%d/stat" % (pid, task), "rb") as stream:
        return stream.read().rpartition(b")")[2].split()[0]


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
    let_go([member for member in members if member.wake])


def _witness(board: Board, row: Row, member: Member, bell: int) -> None:
    """Sleep in a call that only a thaw can end."""
    row.task = threading.get_native_id()
    # The first call takes longest; it is made while there is time.
    call = 1
    row.entering = call
    change_nothing(member.fd, member.directory)
    row.completed = call
    if not os.read(member.wake, 1):
        return
    began = now()
    while not (board.header.stop or row.armed):
        _rest(now() - max(began, row.calling))
        call += 1
        row.entered = now()
        row.entering = call
        change_nothing(member.fd, member.directory)
        row.completed = call
    row.woke = now()
    os.write(bell, b"W")


def _rest(seconds: float) -> None:
    """Leave the processor to others, for no longer than half of what this has taken so far."""
    if seconds > _BUSY_SECONDS:
        time.sleep(min(seconds / 2, _REST_SECONDS))
