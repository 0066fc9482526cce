# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL of the distribution, with its WAL on a filesystem of its own, under pgbench."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from tests.kernel.lab import LabError, run

from .ledger import Ledger
from .server import CLIENTS, Broken, Load, Server, as_user

_SCALE = 2
_PORT = 15432
_SCRIPT = Path(__file__).with_name("load_postgresql.sql")
# Checkpoints often, so that there is always one under way or just done.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "shared_buffers": "32MB",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "checkpoint_timeout": "30s",
    "autovacuum_naptime": "5s",
    "log_checkpoints": "on",
}
# TPC-B: what was moved is the same in all four tables.
_SUMS = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history)
"""


def program(name: str) -> Path:
    """The newest of the distribution's; it is not in the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        raise LabError(f"{name} is missing: install the package postgresql")
    return found[-1]


class PostgreSQL(Server):
    """A cluster; ``data/cluster`` is its folder, and ``log/wal`` its WAL."""

    application = "postgresql"

    @property
    def cluster(self) -> Path:
        """The data folder."""
        return self.data / "cluster"

    def create(self) -> None:
        """Make the cluster, and what the load writes to."""
        where = ("--pgdata", self.cluster, "--waldir", self.log / "wal")
        how = ("--username=postgres", "--auth=trust", "--data-checksums", "--locale=C.UTF-8")
        run(*as_user(program("initdb"), *where, *how), timeout=300)
        settings = [f"{name} = '{value}'\n" for name, value in _SETTINGS.items()]
        settings.append(f"unix_socket_directories = '{self.folder}'\n")
        with (self.cluster / "postgresql.conf").open("a") as file:
            file.writelines(settings)
        with self.running():
            argv = (*self._connect("pgbench"), "--initialize", f"--scale={_SCALE}", "postgres")
            run(*argv, timeout=300)
            self.query("CREATE TABLE noted (client int, n int, PRIMARY KEY (client, n))")
            self.query("CREATE EXTENSION amcheck")

    @property
    def client(self) -> list[str]:
        """The command that connects to it."""
        return [str(word) for word in (*self._connect("psql"), "--dbname=postgres")]

    def check(self) -> None:
        """Run pg_amcheck, and compare what TPC-B says is equal."""
        argv = (*self._connect("pg_amcheck"), "--all", "--heapallindexed", "--rootdescend")
        done = run(*argv, timeout=300, check=False)
        if done.returncode != 0:
            raise Broken(f"pg_amcheck: rc {done.returncode}: {done.stdout} {done.stderr}")
        sums = self.query(_SUMS).split()
        if len(set(sums)) != 1:
            raise Broken(f"accounts, tellers, branches and history differ: {sums}")

    @property
    def noted(self) -> list[str]:
        """The tables that the load notes its transactions in."""
        return ["noted"]

    def adopt(self) -> None:
        """Point to the WAL, and remove the note of a server that is another one."""
        wal = self.cluster / "pg_wal"
        wal.unlink()
        wal.symlink_to(self.log / "wal")
        (self.cluster / "postmaster.pid").unlink()
        with (self.cluster / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{self.folder}'\n")

    def load(self) -> Load:
        """Begin pgbench."""
        script = self.folder / _SCRIPT.name
        script.write_text(_SCRIPT.read_text())
        return _Pgbench(self, script)

    def query(self, text: str) -> str:
        """What psql answers."""
        how = ("--no-psqlrc", "--no-align", "--tuples-only", "--field-separator=\t", "--quiet")
        return run(*self.client, *how, f"--command={text}", timeout=120).stdout

    def pgbench(self, script: Path) -> list[str | Path]:
        """The command that loads it, with a log of transactions in ``folder``."""
        log = ("--log", f"--log-prefix={self.folder / 'ledger'}")
        how = ("--no-vacuum", f"--client={CLIENTS}", "--jobs=1", "--time=86400", "--define=n=0")
        return [*self._connect("pgbench"), *how, *log, f"--file={script}", "postgres"]

    def _connect(self, name: str) -> list[str | Path]:
        return [program(name), f"--host={self.folder}", f"--port={_PORT}", "--username=postgres"]

    def _command(self) -> Sequence[str | Path]:
        return (program("postgres"), "-D", self.cluster)

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGINT  # disconnects clients


class _Pgbench(Load):
    """pgbench, which ends in good order when it believes that its time is over."""

    def __init__(self, server: PostgreSQL, script: Path) -> None:
        super().__init__(server.pgbench(script), server.folder / "load", signal.SIGALRM)
        self._folder = server.folder

    def ledger(self) -> Ledger:
        """Read its log: client, number, microseconds, script, time of the end in s and us."""
        ledger = Ledger()
        for log in self._folder.glob("ledger.*"):
            for line in log.read_text().splitlines():
                client, _number, taken, _script, seconds, fraction = line.split()[:6]
                acknowledged = int(seconds) + int(fraction) / 1e6
                ledger.add(int(client), acknowledged - int(taken) / 1e6, acknowledged)
        return ledger
