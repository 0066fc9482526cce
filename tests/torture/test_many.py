# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many freezers and thawers of one filesystem at once: whoever reports success has told the truth.

The idea of xfstests' generic/390, held against two witnesses from outside: one polls the kernel's
state, the other writes without a pause. ``held: true`` is a claim about the time from the answer of
the freeze to the request of the thaw. Nothing may have been written in it, no look may have found
anything but ``frozen``, and no other lease may claim a part of it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from tests.kernel import modules
from tests.kernel.lab import FSTYPES, Lab
from tests.torture.evidence import Timeline
from tests.torture.scene import PATIENCE, SEED, Scene, outcome, scene

# Seconds; the second actor's often comes before its thaw.
TIMEOUTS = {"steady": 30, "short": 1, "same": 30}
# What a freeze may answer where somebody else has frozen, or thaws meanwhile.
REASONS = (
    "is frozen, by",
    "is freezing, by",
    "frozen by",
    "held by",
    "is held by another guard",
    "freezes a filesystem of this set just now, and was first",
    "was thawed by somebody else",
    "was thawed on request",
    "a thaw was asked for",
    "was not frozen when the deadline",
    "the freeze was not held",
    "the commands were not run",
    "was lost while it was being renewed",
    "is broken, and cannot be renewed",
    "has ended, and its guard",
    "nothing could be set to watch over it",
)


@dataclass
class Claim:
    """A lease says that the filesystem was frozen, unbroken, from one moment to another."""

    lease: str
    since: float
    until: float


@dataclass
class Game:
    """Everybody who plays, and what they were told."""

    play: Scene
    claims: list[Claim] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    ended_by: list[str | None] = field(default_factory=list)

    def running(self) -> bool:
        """While there is time; where the machine is slow, until one lease has held."""
        return self.play.running() or (not self.claims and self.play.overtime() < 2 * PATIENCE)

    def owner(self, actor: str, kind: str) -> None:
        """Freeze, hold, thaw, under a lease of a name that another may use too."""
        play, chance = self.play, Random(f"{SEED} {actor}")
        lease = play.lease(kind)
        while self.running():
            options = {"lease": lease, "timeout": TIMEOUTS[kind], "patience": PATIENCE}
            made = outcome(modules.freeze, play.filesystem, **options)
            since = time.monotonic()
            if made.get("failed"):
                self.refused.append(made["msg"])
                continue
            play.counts["freezes"] += made["changed"]
            time.sleep(chance.choice((0, 0.05, 0.3, 0.8)))
            until = time.monotonic()
            ended = modules.thaw(play.filesystem, lease=lease, patience=PATIENCE)
            play.counts["thaws"] += ended["changed"]
            self.ended_by.append(ended["thawed_by"])
            # Nobody here kills a guard.
            assert ended["thawed_by"] != "guard_lost", ended
            if ended["held"] and ended["changed"]:
                # Another actor of the same lease may have thawed and frozen once more meanwhile.
                whole = ended["lease"]["complete_at"] == made["lease"]["complete_at"]
                assert whole or kind == "same", (made, ended)
                if whole:
                    self.claims.append(Claim(lease, since, until))
            elif made["changed"] and ended["held"] is None:
                # Another actor of the same lease was the one who thawed it.
                assert kind == "same", ended

    def runner(self) -> None:
        """Commands that note when they ran: the claim is about them."""
        play = self.play
        lease = play.lease("run")
        note = ["cat", "/proc/uptime"]
        while self.running():
            options = {"lease": lease, "timeout": 20, "patience": PATIENCE}
            before = time.monotonic() - uptime()
            answer = outcome(
                modules.call,
                "fsfreeze_run",
                path=[play.filesystem],
                commands=[note, ["sleep", "0.1"], note],
                **options,
            )
            if answer.get("failed"):
                self.refused.append(answer["msg"])
                continue
            assert answer["held"] is True
            # Hundredths of seconds, rounded down.
            first, last = (float(answer["results"][n]["stdout"].split()[0]) for n in (0, 2))
            play.counts["runs"] += 1
            self.claims.append(Claim(lease, before + first + 0.01, before + last))

    def stranger(self) -> None:
        """A bare freeze and a bare thaw, each whenever it likes; the last word is a thaw."""
        play, chance = self.play, Random(f"{SEED} stranger")
        while play.running():
            time.sleep(chance.uniform(0, 1.5))
            for option in chance.choice((("-f", "-u"), ("-u",), ("-f", "-u"))):
                argv = ["fsfreeze", option, str(play.filesystem.mountpoint)]
                done = subprocess.run(argv, check=False, capture_output=True, timeout=PATIENCE)
                play.counts["bare " + option] += not done.returncode
                time.sleep(chance.uniform(0, 0.1))

    def thawer(self) -> None:
        """``state=thawed`` without a lease: makes it so, whoever froze it."""
        play, chance = self.play, Random(f"{SEED} thawer")
        while play.running():
            time.sleep(chance.uniform(0.5, 2))
            answer = modules.thaw(play.filesystem, patience=PATIENCE)
            play.counts["thaws of all"] += answer["changed"]

    def actors(self) -> list[Callable[[], None]]:
        """What is to run at once."""
        return [
            lambda: self.owner("steady", "steady"),
            lambda: self.owner("short", "short"),
            lambda: self.owner("same 1", "same"),
            lambda: self.owner("same 2", "same"),
            self.runner,
            self.stranger,
            self.thawer,
        ]


def uptime() -> float:
    """The clock that /proc/uptime shows."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize("fstype", FSTYPES)
def test_everybody_at_once(lab: Lab, fstype: str) -> None:
    with scene(lab, "many", fstype) as play:
        state_log, write_log = play.log("states"), play.log("writes")
        play.start("evidence.py", "states", play.filesystem.mountpoint, state_log)
        play.start("evidence.py", "writes", play.filesystem.mountpoint, write_log)
        while not (state_log.exists() and write_log.exists()):
            time.sleep(0.02)
        game = Game(play)
        play.begin()
        with ThreadPoolExecutor() as pool:
            for actor in [pool.submit(actor) for actor in game.actors()]:
                actor.result()
        # Nothing is thawed here: what they have left must be over by itself, at a deadline.
        play.assert_quiet()
        play.end_children()
        timeline = Timeline(state_log, write_log)
        against = [
            f"{claim.lease}: {line}"
            for claim in game.claims
            for line in timeline.against(claim.since, claim.until)
        ]
        assert not against, against
        assert not overlaps(game.claims)
        unknown = [why for why in game.refused if not any(words in why for words in REASONS)]
        assert not unknown, unknown
        play.check()
        play.counts.update(claims=len(game.claims), refused=len(game.refused))
        play.counts.update(looks=len(timeline.states), writes=len(timeline.writes))
        play.counts.update(f"ended by {who}" for who in game.ended_by)
        play.report(claims=1, writes=10, looks=10, checks=1)


def overlaps(claims: list[Claim]) -> list[Any]:
    """Two leases that both claim to have held the filesystem at one time."""
    ordered = sorted(claims, key=lambda claim: claim.since)
    return [
        (one, two)
        for one, two in pairwise(ordered)
        if one.lease != two.lease and two.since < one.until
    ]
