# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database server of the tests' own: an unprivileged user's, reached by a unix socket alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.kernel.lab import LabError, run
from tests.kernel.processes import wait_for

from .ledger import Ledger

# It has a name, which PostgreSQL insists on, on every distribution.
USER = "nobody"
CLIENTS = 4
_PATIENCE = 180.0


class Broken(Exception):
    """A server does not start, or what it has is not whole; the text says why."""


def as_user(*argv: str | Path) -> list[str]:
    """The command, run by the unprivileged user."""
    words = ("setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups", "--", *argv)
    return [str(word) for word in words]


def folder_of_user(path: Path) -> Path:
    """Make a folder the unprivileged user's, and make it if it is not there."""
    path.mkdir(mode=0o700, exist_ok=True)
    run("chown", f"{USER}:nogroup", path)
    return path


class Server(ABC):
    """A server whose data and log are in two folders, on one filesystem each.

    ``data`` and ``log`` are folders of the two filesystems; ``folder`` is one for sockets and
    messages, which is never frozen.
    """

    application: ClassVar[str]

    def __init__(self, data: Path, log: Path, folder: Path) -> None:
        self.data = data
        self.log = log
        self.folder = folder

    def at(self, data: Path, log: Path, folder: Path) -> Server:
        """Return the same server elsewhere; its files are there."""
        return type(self)(data, log, folder)

    @abstractmethod
    def create(self) -> None:
        """Make an empty cluster, and what the load writes to; the server is not running."""

    @property
    @abstractmethod
    def client(self) -> list[str]:
        """The command that connects to it."""

    @abstractmethod
    def check(self) -> None:
        """Have its own tool look at all tables, and see that sums are right; Broken if not."""

    @property
    @abstractmethod
    def noted(self) -> Sequence[str]:
        """The tables that the load notes its transactions in."""

    def found(self) -> list[Mapping[int, tuple[int, int]]]:
        """What these have, see ``ledger.Snapshot``."""
        tables: list[Mapping[int, tuple[int, int]]] = []
        for table in self.noted:
            rows = self.query(f"SELECT client, COUNT(*), MAX(n) FROM {table} GROUP BY client")
            numbers = [[int(word) for word in row.split()] for row in rows.splitlines()]
            tables.append({client: (count, highest) for client, count, highest in numbers})
        return tables

    @abstractmethod
    def adopt(self) -> None:
        """Make a snapshot that is mounted elsewhere fit to be started there."""

    @abstractmethod
    def load(self) -> Load:
        """Begin the load."""

    @abstractmethod
    def query(self, text: str) -> str:
        """What the server answers, a line for each row, columns separated by tabs; LabError."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The server's own command, in the foreground."""

    @abstractmethod
    def _stop_signal(self) -> signal.Signals:
        """What ends it in good order."""

    @property
    def messages(self) -> str:
        """All that it has written to its log of messages."""
        return (self.folder / "messages").read_text(errors="replace")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it for the length of the block, once it has recovered; Broken if it does not."""
        with (self.folder / "messages").open("ab") as messages:
            process = subprocess.Popen(
                as_user(*self._command()),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_up(process)
            yield
        finally:
            process.send_signal(self._stop_signal())
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _wait_until_up(self, process: subprocess.Popen[bytes]) -> None:
        def is_up() -> bool:
            if process.poll() is not None:
                raise Broken(f"the server has ended: {self.messages[-2000:]}")
            with contextlib.suppress(LabError):
                return self.query("SELECT 1").strip() == "1"
            return False

        wait_for(is_up, _PATIENCE)


class Load(ABC):
    """A running load; the transactions are known when it has ended."""

    def __init__(self, argv: Sequence[str | Path], messages: Path, ending: signal.Signals) -> None:
        self._messages = messages
        self._ending = ending
        with messages.open("wb") as output:
            self._process = subprocess.Popen(
                as_user(*argv),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @abstractmethod
    def ledger(self) -> Ledger:
        """Return what was acknowledged."""

    def check(self) -> None:
        """Raise Broken if it has ended by itself."""
        if self._process.poll() is not None:
            raise Broken(f"the load has ended: {self._messages.read_text(errors='replace')}")

    def end(self) -> None:
        """Have it end; it writes down what it has still in memory."""
        if self._process.poll() is None:
            self._process.send_signal(self._ending)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise Broken("the load does not end") from None
