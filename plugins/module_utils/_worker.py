# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads that are there before they are needed."""

from __future__ import annotations

import contextlib
import threading
from typing import Callable

# All that a worker does is a system call or two; its stack is locked in memory.
_STACK_BYTES = 128 << 10


class Worker:
    """A thread that does one thing whenever it is asked to.

    It is there before it is needed: a host on which a freeze blocks everything may come to have
    no room for another thread.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        """Start it; ``RuntimeError`` where the host has no room for it."""
        self._work = work
        self._ended = False
        self._asked = threading.Semaphore(0)
        self._idle = threading.Event()
        self._idle.set()
        threading.stack_size(_STACK_BYTES)
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self) -> None:
        """Have it begin, unless it is at it."""
        if self._idle.is_set():
            self._idle.clear()
            self._asked.release()

    def end(self) -> None:
        """Have the thread end, once it is done."""
        self._ended = True
        self._asked.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is done, for that long at most; whether it is."""
        return self._idle.wait(seconds)

    def _run(self) -> None:
        while self._asked.acquire() and not self._ended:
            # Whatever went wrong, it has to be there for the next attempt.
            with contextlib.suppress(Exception):
                self._work()
            self._idle.set()
