# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that is started up to its last step, and takes that when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Mapping, NoReturn, Sequence

from ansible_collections.quiesce.storage.plugins.module_utils._children import close_all_but
from ansible_collections.quiesce.storage.plugins.module_utils._process import (
    die_with_parent,
    hurry,
)

# As shells say it of a program that cannot be executed.
_NOT_EXECUTED = 126


class Command:
    """A process of its own session, with pipes for what it says, that waits to become a program.

    It ends when its parent does, and comes before other processes, since writers wait for it; what
    it starts does not. ``pid`` is its process ID, ``output`` the descriptors to read its
    standard output and error from, ``rc`` its return code once it has ended, as ``subprocess`` has
    it (-9: killed by SIGKILL).
    """

    def __init__(self, argv: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
        """Fork; ``OSError`` where there is no room, ``ValueError`` for what can be no argument."""
        if any("\0" in word for word in [*argv, folder, *environment, *environment.values()]):
            raise ValueError("embedded null byte")
        self.argv = list(argv)
        self.rc: int | None = None
        gate, self._gate = os.pipe()
        self._failure, failure = os.pipe()
        (out, write_out), (err, write_err) = os.pipe(), os.pipe()
        self.output = (out, err)
        self.pid = os.fork()
        if not self.pid:
            self._become(gate, failure, (write_out, write_err), folder, environment)
        for fd in (gate, failure, write_out, write_err):
            os.close(fd)

    def _become(
        self,
        gate: int,
        failure: int,
        output: tuple[int, int],
        folder: str,
        environment: Mapping[str, str],
    ) -> NoReturn:
        try:
            os.setsid()
            die_with_parent()
            hurry()
            os.chdir(folder)
            for number, fd in enumerate((os.open(os.devnull, os.O_RDONLY), *output)):
                os.dup2(fd, number)
            # Its own end of the gate among them, and those of others.
            close_all_but([0, 1, 2, gate, failure])
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            if os.read(gate, 1):
                os.execve(self.argv[0], self.argv, dict(environment))
        except OSError as error:
            os.write(failure, b"%d" % (error.errno or 0))
        finally:
            os._exit(_NOT_EXECUTED)

    def go(self) -> None:
        """Become the program; ``OSError`` if that cannot be executed."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._gate, b"G")
        # Closed by a program that begins.
        said = os.read(self._failure, 16)
        if said:
            self.wait()
            raise OSError(int(said), os.strerror(int(said)))

    def ended(self) -> bool:
        """Whether it has."""
        if self.rc is None:
            self._note(os.waitpid(self.pid, os.WNOHANG))
        return self.rc is not None

    def wait(self) -> None:
        """Until it has ended."""
        if self.rc is None:
            self._note(os.waitpid(self.pid, 0))

    def kill(self) -> None:
        """End it, and what it has started in its session's group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it; one that was never told to go ends."""
        for fd in (self._gate, self._failure, *self.output):
            os.close(fd)
        self.wait()

    def _note(self, found: tuple[int, int]) -> None:
        pid, status = found
        if pid:
            killed = os.WIFSIGNALED(status)
            self.rc = -os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
