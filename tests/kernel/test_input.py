# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: one clear sentence, no traceback, nothing frozen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import Filesystem, Lab
from tests.kernel.modules import Failed, call, freeze, info, state, thaw


@pytest.fixture(scope="module")
def one(lab: Lab):
    with lab.filesystem("ext4") as made:
        yield made


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ([], "path is empty"),
        ([""], "not absolute"),
        (["relative"], "not absolute"),
        (["./here"], "not absolute"),
        (["/does/not/exist"], "does not exist"),
        (["/does not/exist\neither"], "does not exist"),
        (["/nicht/dä"], "does not exist"),
        (["/" + "x" * 300], "too long"),
        (["/" + "x/" * 3000], "too long"),
        (["/proc"], "proc"),
        (["/dev/null"], "/dev"),
        (["/dev/shm"], "tmpfs"),
    ],
)
@pytest.mark.parametrize("good", [False, True])
def test_paths(one: Filesystem, paths: list[str], sentence: str, good: bool) -> None:
    everything = [one, *paths] if good and paths else paths
    for check in (False, True):
        with pytest.raises(Failed, match=sentence) as failed:
            freeze(*everything, check=check)
        assert len(failed.value.msg) < 1000
    if paths and not os.path.exists(paths[0]):
        with pytest.raises(Failed, match=sentence):
            info(*everything)
        with pytest.raises(Failed, match=sentence):
            thaw(*everything)
    assert state(one) == "thawed"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout": -1}, "timeout"),
        ({"timeout": 86401}, "timeout"),
        ({"timeout": 10**30}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"freeze_timeout": 0}, "freeze_timeout"),
        ({"freeze_timeout": -5}, "freeze_timeout"),
        ({"flush_timeout": 0}, "flush_timeout"),
        ({"lease": "a/b"}, "lease"),
        ({"lease": "../x"}, "lease"),
        ({"lease": "x" * 65}, "lease"),
        ({"lease": "name\n"}, "lease"),
        ({"lease": "ä"}, "lease"),
        ({"lease": " "}, "lease"),
        ({"unsupported": "ignore"}, "unsupported"),
        ({"state": "icy"}, "state"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
)
@pytest.mark.parametrize("module", ["fsfreeze", "fsfreeze_run"])
def test_options(
    one: Filesystem, options: dict[str, Any], sentence: str, module: str, tmp_path: Path
) -> None:
    extra: dict[str, Any] = {"state": "frozen"}
    if module == "fsfreeze_run":
        extra = {"commands": [["touch", tmp_path / "ran"]]}
        if "state" in options:
            return
    with pytest.raises(Failed, match=sentence):
        call(module, **{"path": [one], **extra, **options})
    assert state(one) == "thawed"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [".", "..", "...", "-", "a" * 64, "A.b_c-9"])
def test_odd_but_good_lease_names(one: Filesystem, name: str) -> None:
    freeze(one, lease=name)
    assert thaw(one, lease=name)["held"] is True


@pytest.mark.parametrize(
    ("prefix", "sentence"),
    [
        (["setpriv", "--reuid=65534", "--clear-groups"], "become"),
        (["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], "become"),
    ],
)
def test_unprivileged(one: Filesystem, prefix: list[str], sentence: str) -> None:
    for answer in (freeze, thaw):
        with pytest.raises(Failed, match=sentence):
            answer(one, prefix=prefix)
    assert state(one) == "thawed"


def test_run_folder_of_somebody_else(one: Filesystem) -> None:
    os.chmod("/run/quiesce", 0o755)
    try:
        with pytest.raises(Failed, match="/run/quiesce"):
            freeze(one)
    finally:
        os.chmod("/run/quiesce", 0o700)
    assert state(one) == "thawed"
