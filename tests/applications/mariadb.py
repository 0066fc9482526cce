# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MariaDB of the distribution, with its logs on a filesystem of their own, under sysbench."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from tests.kernel.lab import run

from .ledger import Ledger
from .server import CLIENTS, USER, Broken, Load, Server, folder_of_user

ACCOUNTS = 10_000
_SCRIPT = Path(__file__).with_name("load_mariadb.lua")
# Small buffers and logs, so that pages and checkpoints are written all the time.
_SETTINGS = (
    "--skip-networking",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--key-buffer-size=8M",
    "--sync-binlog=1",
)


class MariaDB(Server):
    """A server; ``data/db`` is its folder, and ``log`` has InnoDB's log and the binary log.

    :param engines: what the load writes to.
    """

    application = "mariadb"

    def __init__(
        self, data: Path, log: Path, folder: Path, engines: Sequence[str] = ("InnoDB",)
    ) -> None:
        super().__init__(data, log, folder)
        self.engines = engines

    def at(self, data: Path, log: Path, folder: Path) -> MariaDB:
        """Return the same server elsewhere."""
        return MariaDB(data, log, folder, self.engines)

    def create(self) -> None:
        """Make the system tables, and what the load writes to."""
        for name in ("innodb", "binlog"):
            folder_of_user(self.log / name)
        how = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        where = (f"--datadir={self.data / 'db'}", f"--user={USER}")
        log = f"--innodb-log-group-home-dir={self.log / 'innodb'}"
        run("mariadb-install-db", "--no-defaults", *where, *how, log, *_SETTINGS[1:3], timeout=300)
        with self.running():
            self.query("CREATE DATABASE work")
            for engine in self.engines:
                self.query(
                    f"USE work; CREATE TABLE accounts_{engine} (id INT PRIMARY KEY,"
                    f" balance BIGINT NOT NULL, text CHAR(100), KEY (balance)) ENGINE={engine};"
                    f"INSERT INTO accounts_{engine} SELECT seq, 0, '' FROM seq_1_to_{ACCOUNTS};"
                    f"CREATE TABLE noted_{engine} (client INT, n INT, PRIMARY KEY (client, n))"
                    f" ENGINE={engine}"
                )

    @property
    def client(self) -> list[str]:
        """The command that connects to it."""
        return ["mariadb", *self._connect()]

    def check(self) -> None:
        """Run mariadb-check on all databases; what InnoDB has moved is the same in sum."""
        argv = ("mariadb-check", *self._connect(), "--all-databases", "--check")
        said = run(*argv, timeout=300, check=False)
        lines = [line for line in said.stdout.splitlines() if not line.endswith(" OK")]
        if said.returncode != 0 or lines:
            raise Broken(f"mariadb-check: rc {said.returncode}: {lines} {said.stderr}")
        for engine in self.engines:
            total = self.query(f"SELECT COUNT(*), SUM(balance) FROM work.accounts_{engine}").split()
            # The others have no transactions, so one of two accounts may lack what the other has.
            if int(total[0]) != ACCOUNTS or (engine == "InnoDB" and int(total[1]) != 0):
                raise Broken(f"{engine}: {total[0]} accounts, with {total[1]} in sum")

    @property
    def noted(self) -> list[str]:
        """The tables that the load notes its transactions in."""
        return [f"work.noted_{engine}" for engine in self.engines]

    def adopt(self) -> None:
        """Let it find the binary logs of the index where they are now."""
        index = self.log / "binlog" / "log.index"
        names = [Path(line).name for line in index.read_text().splitlines()]
        index.write_text("".join(f"{index.parent / name}\n" for name in names))

    def load(self) -> Load:
        """Begin sysbench."""
        script = self.folder / _SCRIPT.name
        script.write_text(_SCRIPT.read_text())
        return _Sysbench(self, script)

    def query(self, text: str) -> str:
        """What the client answers."""
        argv = (*self.client, "--batch", "--skip-column-names", f"--execute={text}")
        return run(*argv, timeout=120).stdout

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "socket"

    def _connect(self) -> list[str]:
        return ["--no-defaults", f"--socket={self.socket}", "--user=root"]

    def _command(self) -> Sequence[str | Path]:
        return (
            "mariadbd",
            "--no-defaults",
            f"--datadir={self.data / 'db'}",
            f"--innodb-log-group-home-dir={self.log / 'innodb'}",
            f"--log-bin={self.log / 'binlog' / 'log'}",
            f"--socket={self.socket}",
            f"--pid-file={self.folder / 'pid'}",
            f"--tmpdir={self.folder}",
            *_SETTINGS,
        )

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM


class _Sysbench(Load):
    """sysbench with a script of our own."""

    def __init__(self, server: MariaDB, script: Path) -> None:
        database = ("--db-driver=mysql", f"--mysql-socket={server.socket}", "--mysql-user=root")
        tables = ("--mysql-db=work", f"--engines={','.join(server.engines)}")
        what = (f"--ledger={server.folder / 'ledger'}", f"--accounts={ACCOUNTS}")
        how = (f"--threads={CLIENTS}", "--time=0", "--rand-type=uniform", "--db-ps-mode=disable")
        argv = ("sysbench", script, *database, *tables, *what, *how, "run")
        super().__init__(argv, server.folder / "load", signal.SIGTERM)
        self._folder = server.folder

    def ledger(self) -> Ledger:
        """Read what each thread has noted: when it was sent, and acknowledged."""
        ledger = Ledger()
        for noted in self._folder.glob("ledger.*"):
            # What was being written when it ended is no whole line.
            for line in noted.read_text().rpartition("\n")[0].splitlines():
                sent, acknowledged = line.split()
                ledger.add(int(noted.suffix[1:]), float(sent), float(acknowledged))
        return ledger
