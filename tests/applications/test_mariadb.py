# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MariaDB: every snapshot under load recovers and is whole; what is held is let go of."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import Lab
from tests.kernel.modules import state
from tests.kernel.processes import wait_for

from .mariadb import MariaDB
from .scene import Scene, scene, snapshots_under_load
from .server import folder_of_user

ENGINES = ("InnoDB", "MyISAM", "Aria")


@pytest.fixture(scope="module")
def quiet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Give a server without a load; its tables want a session that holds them."""
    folder = tmp_path_factory.mktemp("mariadb")
    with scene(lab, MariaDB, folder, engines=ENGINES) as made:
        yield made


def sessions(on: Scene) -> list[str]:
    """The connections of clients, but for the one that asks."""
    return on.server.query(
        "SELECT ID FROM information_schema.PROCESSLIST"
        " WHERE USER = 'root' AND ID <> CONNECTION_ID()"
    ).split()


def writes(on: Scene) -> None:
    """Write to each table; nobody holds them."""
    for engine in ENGINES:
        on.server.query(
            "SET SESSION lock_wait_timeout = 5;"
            f" UPDATE work.accounts_{engine} SET text = 'written' WHERE id = 1"
        )


def nothing_is_held(on: Scene) -> None:
    """No session and no file of one is left, and tables are written to."""
    wait_for(lambda: not sessions(on), 30)
    assert not list(Path("/run").glob("quiesce-mariadb-*"))
    writes(on)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("engines", [("InnoDB",), ENGINES], ids=["innodb", "all"])
def test_every_snapshot_under_load(
    lab: Lab, tmp_path: Path, snapshots: range, engines: tuple[str, ...]
) -> None:
    with scene(lab, MariaDB, tmp_path, engines=engines) as stage:
        assert not snapshots_under_load(stage, snapshots)


def test_a_set_without_the_log_is_refused(quiet: Scene) -> None:
    outcome = quiet.role("without_log", paths=[str(quiet.data)])
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert f"MariaDB stores {quiet.log}/innodb" in failure
    assert f"which is on {quiet.log}, and consistent_snapshot_paths does not have that" in failure
    assert outcome.result["held"] is None
    assert state(quiet.data) == "thawed"


@pytest.mark.parametrize("engine", ENGINES[:2])
def test_a_set_without_a_table_is_refused(quiet: Scene, engine: str) -> None:
    place = folder_of_user(quiet.server.folder / f"tables_{engine}")
    what = f"(n INT) ENGINE={engine} DATA DIRECTORY='{place}'"
    quiet.server.query(f"CREATE TABLE work.elsewhere {what}")
    try:
        outcome = quiet.role("without_table")
    finally:
        quiet.server.query("DROP TABLE work.elsewhere")
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert failure.startswith("MariaDB stores ")
    assert "elsewhere" in failure
    assert outcome.result["held"] is None


def test_what_is_held_is_let_go_of_when_the_snapshot_fails(quiet: Scene) -> None:
    # While it is frozen the session is there, and its lock with it.
    command = ["sh", "-c", "grep -l '^it holds' /run/quiesce-mariadb-*/out; exit 28"]
    outcome = quiet.role("failing", provider="command", command=command)
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert "rc 28" in failure
    assert "/run/quiesce-mariadb-" in outcome.said
    nothing_is_held(quiet)


def test_a_session_that_was_lost_is_told(quiet: Scene) -> None:
    kill = "for pid in /run/quiesce-mariadb-*/pid; do kill -- -$(cat $pid); done; sleep 1"
    outcome = quiet.role("lost", provider="command", command=["sh", "-c", kill])
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert "the session of MariaDB that blocked writers had ended before the thaw" in failure
    assert outcome.result["held"] is True
    assert outcome.result["trusted"] is False
    assert "Do not trust the snapshot lost" in outcome.said
    nothing_is_held(quiet)


def test_a_session_that_the_server_has_ended_is_told(quiet: Scene) -> None:
    query = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO IS NULL AND USER = 'root'"
    client = " ".join(quiet.server.client)
    kill = f"{client} --batch --skip-column-names -e 'KILL '$({client} -BNe \"{query} LIMIT 1\")"
    outcome = quiet.role("ended", provider="command", command=["sh", "-c", kill])
    assert outcome.status == 2, outcome.said
    (failure,) = outcome.result["failures"]
    assert "had ended before the thaw: " in failure
    assert "Server has gone away" in failure
    assert outcome.result["trusted"] is False
    nothing_is_held(quiet)


def test_a_lock_that_cannot_be_had_is_not_waited_for(quiet: Scene) -> None:
    with subprocess.Popen(
        [*quiet.server.client, "--unbuffered"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write("LOCK TABLES work.accounts_MyISAM WRITE; SELECT 'locked';\n")
        other.stdin.flush()
        assert other.stdout.readline().strip() == "locked"
        outcome = quiet.role("waiting", mariadb_lock_timeout=2)
        other.stdin.close()
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert "Lock wait timeout exceeded" in failure
    assert "within consistent_snapshot_mariadb_lock_timeout (2 s)" in failure
    assert outcome.result["held"] is None
    nothing_is_held(quiet)


def test_a_session_ends_by_itself_when_the_controller_is_killed(
    quiet: Scene, tmp_path: Path
) -> None:
    tasks = tmp_path / "tasks.yml"
    tasks.write_text('[{"name": "Be frozen", "ansible.builtin.command": "sleep 60"}]')
    chosen = {"provider": "tasks", "tasks": str(tasks), "timeout": 10, "mariadb_hold_timeout": 60}
    with quiet.playing("killed", **chosen) as play:
        play.wait("start", "Be frozen")
        assert state(quiet.data) == "frozen"
        assert len(sessions(quiet)) == 1
        # Alone: what it has started here it would otherwise take with it, the session's client too.
        play.process.kill()
        wait_for(lambda: state(quiet.data) == "thawed", 60)
        assert len(sessions(quiet)) == 1
        wait_for(lambda: not sessions(quiet), 120)
        writes(quiet)
        (folder,) = Path("/run").glob("quiesce-mariadb-*")
        wait_for(lambda: (folder / "out").read_text().endswith("it ended\n"), 10)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"after": None}, "set consistent_snapshot_after to mariadb"),
        ({"timeout": 300}, "has to be shorter than consistent_snapshot_mariadb_hold_timeout"),
    ],
)
def test_a_session_that_might_not_end_in_time_is_refused(
    quiet: Scene, chosen: dict[str, object], told: str
) -> None:
    outcome = quiet.role("refused", **chosen)
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert "(MyISAM)" in failure or "(Aria)" in failure
    assert told in failure
    nothing_is_held(quiet)
