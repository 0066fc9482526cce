# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL: every snapshot under load recovers and is whole; what would not be is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import Lab, run
from tests.kernel.modules import state

from .postgresql import PostgreSQL
from .scene import Scene, scene, snapshots_under_load
from .server import folder_of_user


@pytest.fixture(scope="module")
def quiet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Give a cluster without a load."""
    with scene(lab, PostgreSQL, tmp_path_factory.mktemp("postgresql")) as made:
        yield made


@pytest.mark.timeout(7200)
def test_every_snapshot_under_load(lab: Lab, tmp_path: Path, snapshots: range) -> None:
    with scene(lab, PostgreSQL, tmp_path) as stage:
        assert not snapshots_under_load(stage, snapshots)


def test_a_set_without_the_log_is_refused(quiet: Scene) -> None:
    outcome = quiet.role("without_log", paths=[str(quiet.data)])
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert f"PostgreSQL stores {quiet.data}/cluster/pg_wal, which is on {quiet.log}" in failure
    assert outcome.result["held"] is None
    assert not outcome.result["snapshots"]
    assert state(quiet.data) == "thawed"


def test_a_set_without_a_tablespace_is_refused(quiet: Scene) -> None:
    place = folder_of_user(quiet.server.folder / "tablespace")
    quiet.server.query(f"CREATE TABLESPACE elsewhere LOCATION '{place}'")
    try:
        outcome = quiet.role("without_tablespace")
    finally:
        quiet.server.query("DROP TABLESPACE elsewhere")
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert f"PostgreSQL stores {quiet.data}/cluster/pg_tblspc/" in failure
    assert outcome.result["held"] is None


def test_subvolumes_one_after_the_other_are_refused(lab: Lab, tmp_path: Path) -> None:
    lab.folder.chmod(0o711)
    with lab.filesystem("btrfs") as one:
        places = [one.mountpoint / "data", one.mountpoint / "log"]
        for place in places:
            run("btrfs", "subvolume", "create", place)
            folder_of_user(place)
        server = PostgreSQL(places[0], places[1], folder_of_user(lab.folder / "postgresql-btrfs"))
        server.create()
        with server.running():
            stage = Scene(lab, one, one, server, tmp_path)
            outcome = stage.role("parts", provider="btrfs", paths=[str(each) for each in places])
    assert outcome.status == 2
    (failure,) = outcome.result["failures"]
    assert "one after the other, without a freeze: the set would not be of one instant" in failure
    assert not outcome.result["snapshots"]


def test_a_server_that_does_not_answer_is_named(quiet: Scene) -> None:
    client = ["psql", f"--host={quiet.folder}", "--dbname=postgres"]
    outcome = quiet.role("no_server", postgresql_client=client)
    assert outcome.status == 2
    first, last = outcome.result["failures"]
    assert first.startswith("Ask PostgreSQL what it stores where: ")
    assert last.startswith("Check that PostgreSQL answers: ")
    assert "No such file or directory" in first
    assert outcome.result["held"] is None


def test_a_check_changes_nothing(quiet: Scene) -> None:
    outcome = quiet.role("predicted", "--check")
    assert outcome.status == 0, outcome.said
    assert outcome.result["trusted"] is None
    assert not Path(f"{quiet.data.image}.predicted").exists()
