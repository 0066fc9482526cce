# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that the checkers really say, sorted into harmless and not."""

from __future__ import annotations

import pytest
from ansible_collections.quiesce.storage.plugins.module_utils._complaints import (
    of_e2fsck,
    of_xfs_logprint,
    of_xfs_repair,
    quote,
)

E2FSCK = """\
e2fsck 1.47.0 (5-Feb-2023)
Pass 1: Checking inodes, blocks, and sizes
{pass_1}
Pass 2: Checking directory structure
Pass 3: Checking directory connectivity
Pass 4: Checking reference counts
Pass 5: Checking group summary information
{pass_5}
i: 14/4096 files (0.0% non-contiguous), 2424/16384 blocks
"""
QUOTA = (
    "[QUOTA WARNING] Usage inconsistent for ID 0:actual (13312, 2) != expected (95232, 3)\n"
    "Update quota info for quota type 0? no\n"
)
STILL_ERRORS = "\ni: ********** WARNING: Filesystem still has errors **********\n"
ZERO_DTIME = "Deleted inode 12 has zero dtime.  Fix? no\n"
BLOCKS = "Block bitmap differences:  -(1172--1220)\nFix? no\n"
INODES = "Inode bitmap differences:  -12\nFix? no\n"


def e2fsck(pass_1: str = "", pass_5: str = "", orphans: bool = False) -> list[str]:
    """What is left of a run that says these things beside the usual."""
    return of_e2fsck(E2FSCK.format(pass_1=pass_1, pass_5=pass_5).splitlines(), orphans)


@pytest.mark.parametrize(
    ("pass_1", "pass_5"),
    [
        ("", ""),
        (ZERO_DTIME, BLOCKS + INODES + STILL_ERRORS),
        ("Inode 12 was part of the orphaned inode list.  IGNORED.", BLOCKS + INODES + STILL_ERRORS),
        (ZERO_DTIME, BLOCKS + INODES + QUOTA + STILL_ERRORS),
        # A folder that was open when it was removed.
        (ZERO_DTIME, "Directories count wrong for group #0 (3, counted=2).\nFix? no\n" + INODES),
        (
            "".join(f"Deleted inode {n} has zero dtime.  Fix? no\n" for n in (12, 14, 15, 16)),
            "Inode bitmap differences:  -12 -(14--16)\nFix? no\n",
        ),
        ("Inode 12 extent tree (at level 1) could be shorter.  Optimize? no", ""),
    ],
)
def test_e2fsck_harmless(pass_1: str, pass_5: str) -> None:
    assert e2fsck(pass_1, pass_5) == []


@pytest.mark.parametrize(
    ("pass_1", "pass_5"),
    [
        # Nothing is there that would explain it.
        ("", QUOTA),
        # More than the filesystem has counted.
        (ZERO_DTIME, INODES + QUOTA.replace("expected (95232", "expected (5232")),
        (ZERO_DTIME, INODES + QUOTA.replace("5232, 3)", "5232, 1)")),
    ],
)
def test_e2fsck_quota_that_no_open_file_explains(pass_1: str, pass_5: str) -> None:
    assert [line for line in e2fsck(pass_1, pass_5) if "QUOTA" in line]


def test_e2fsck_open_files_when_they_count() -> None:
    said = e2fsck(ZERO_DTIME, BLOCKS + INODES, orphans=True)
    assert said == [ZERO_DTIME.strip(), BLOCKS.splitlines()[0], INODES.splitlines()[0]]


@pytest.mark.parametrize(
    ("pass_1", "pass_5", "complaint"),
    [
        ("", "Unattached inode 12\nConnect to /lost+found? no\n", "Unattached inode 12"),
        ("", "Free blocks count wrong for group #0 (6922, counted=6917).", "Free blocks count"),
        ("", "Free inodes count wrong (4082, counted=4083).\nFix? no\n", "Free inodes count"),
        ("Entry 'a' in / (2) has deleted/unused inode 12.  Clear? no", INODES, "Entry 'a'"),
        # Missing from the files, and no orphan is named that explains it.
        ("", BLOCKS, "Block bitmap"),
        ("", INODES, "Inode bitmap"),
        # Another inode than the one that is named.
        (ZERO_DTIME, "Inode bitmap differences:  -13\nFix? no\n", "Inode bitmap"),
        (ZERO_DTIME, "Inode bitmap differences:  -(11--13)\nFix? no\n", "Inode bitmap"),
        # In the files and not in the bitmap: damage, orphan or not.
        (ZERO_DTIME, "Block bitmap differences:  +(1172--1220)", "Block bitmap"),
        (ZERO_DTIME, "Block bitmap differences:  -(1172--1220) +1300", "Block bitmap"),
        (ZERO_DTIME, "Inode bitmap differences:  -12 +13", "Inode bitmap"),
        # More folders than were counted before are not what an open one leaves.
        (ZERO_DTIME, "Directories count wrong for group #0 (2, counted=3).", "Directories count"),
        ("Superblock has an invalid journal (inode 8).", "", "Superblock has"),
        ("e2fsck: Bad magic number in super-block while trying to open i", "", "Bad magic"),
        ("Something that no version has said before", "", "Something that"),
    ],
)
def test_e2fsck_damage(pass_1: str, pass_5: str, complaint: str) -> None:
    assert any(complaint in line for line in e2fsck(pass_1, pass_5))


REPAIR = """\
Phase 1 - find and verify superblock...
Cannot get host filesystem geometry.
Repair may fail if there is a sector size mismatch between
the image and the host filesystem.
Phase 2 - using internal log
        - zero log...
{alert}
        - scan filesystem freespace and inode maps...
{phase_2}
        - found root inode chunk
Phase 3 - for each AG...
        - scan (but don't clear) agi unlinked lists...
{phase_3}
        - agno = 0
No modify flag set, skipping phase 5
Phase 6 - check inode connectivity...
        - moving disconnected inodes to lost+found ...
{phase_6}
Phase 7 - verify link counts...
{phase_7}
No modify flag set, skipping filesystem flush and exiting.
"""
ALERT = """\
ALERT: The filesystem has valuable metadata changes in a log which is being
ignored because the -n option was used.  Expect spurious inconsistencies
which may be resolved by first mounting the filesystem to replay the log."""
BUCKET = "agi unlinked bucket 53 is 181 in ag 0 (inode=181)"
LOST = "disconnected inode 181, would move to lost+found"
LINKS = "would have reset inode 181 nlinks from 0 to 1"


def repair(phases: dict[str, str], dirty: bool = True, orphans: bool = False) -> list[str]:
    """What is left of a run that says these things beside the usual."""
    said = {"alert": "", "phase_2": "", "phase_3": "", "phase_6": "", "phase_7": "", **phases}
    return of_xfs_repair(REPAIR.format(**said).splitlines(), dirty=dirty, orphans=orphans)


def test_xfs_repair_of_a_clean_one() -> None:
    assert repair({}, dirty=False) == []


def test_xfs_repair_on_a_host_with_little_memory() -> None:
    said = """Memory available for repair (1934MB) may not be sufficient.
At least 5822MB is needed to repair this filesystem efficiently
If repair fails due to lack of memory, please
turn prefetching off (-P) to reduce the memory footprint.
If repair fails due to lack of memory, please
increase system RAM and/or swap space to at least 5822MB."""
    assert repair({"phase_3": said}, dirty=False) == []


def test_xfs_repair_of_a_frozen_one() -> None:
    assert repair({"alert": ALERT, "phase_2": "sb_fdblocks 113751, counted 114553"}) == []


def test_xfs_repair_of_a_log_that_should_have_been_clean() -> None:
    assert repair({"alert": ALERT}, dirty=False) == ALERT.splitlines()
    counted = "sb_fdblocks 113751, counted 114553"
    assert repair({"phase_2": counted}, dirty=False) == [counted]


@pytest.mark.parametrize(
    "phases",
    [
        {"phase_2": BUCKET, "phase_6": LOST, "phase_7": LINKS},
        # A folder; and a list of two, of which the first names the second.
        {"phase_2": BUCKET, "phase_6": LOST.replace("inode", "dir inode"), "phase_7": LINKS},
        {
            "phase_2": BUCKET,
            "phase_3": "Would clear next_unlinked in inode 181",
            "phase_6": LOST + "\n" + LOST.replace("181", "182"),
            "phase_7": LINKS + "\n" + LINKS.replace("181", "182"),
        },
    ],
)
def test_xfs_repair_open_files(phases: dict[str, str]) -> None:
    assert repair(phases) == []
    assert len(repair(phases, orphans=True)) == sum(p.count("\n") + 1 for p in phases.values())


@pytest.mark.parametrize(
    "phases",
    [
        # Each is the beginning of an explanation without its end.
        {"phase_6": LOST},
        {"phase_7": LINKS},
        {"phase_2": BUCKET},
        {"phase_6": LOST, "phase_7": LINKS},
        {"phase_2": BUCKET, "phase_6": LOST, "phase_7": LINKS.replace("181", "182")},
        {"phase_2": BUCKET.replace("181", "9"), "phase_6": LOST, "phase_7": LINKS},
        # It has a name, so that it is no open file's.
        {"phase_2": BUCKET, "phase_6": LOST, "phase_7": LINKS.replace("from 0", "from 1")},
        {
            "phase_2": BUCKET,
            "phase_6": LOST + "\n" + LOST.replace("181", "182"),
            "phase_7": LINKS + "\n" + LINKS.replace("181", "182"),
        },
        {"phase_3": "bad CRC for inode 131"},
        {"phase_2": "agf_freeblks 12, counted 13 in ag 0"},
        {"phase_3": "imap claims inode 133 is present, but inode cluster is sparse"},
        {"phase_6": 'entry "a" in dir 128 points to free inode 131, would junk entry'},
        {"phase_2": "Something that no version has said before"},
    ],
)
def test_xfs_repair_damage(phases: dict[str, str]) -> None:
    assert repair(phases)


LOG = """\
xfs_logprint:
    data device: 0xffffffffffffffff
    log device: 0xffffffffffffffff daddr: 524336 length: 131072

    log tail: 39 head: 43 state: <{state}>

"""
SUPERBLOCK = """
LOG REC AT LSN cycle 1 block 39 (0x1, 0x27)
============================================================================
TRANS: tid:0xc63b0fb0  #items:2  trans:0xc63b0fb0  q:0x55ff66d667b0
BUF: cnt:2 total:2 a:0x55ff66d66800 len:24 a:0x55ff66d66850 len:384
\tBUF:  #regs:2   start blkno:0x0   len:1   bmap size:1   flags:0x9000
\tSUPER Block Buffer:
"""
INODE = """
TRANS: tid:0xa2c69eaf  #items:169  trans:0xa2c69eaf  q:0x557d10334bb0
INO: cnt:2 total:2 a:0x557d10334c50 len:56 a:0x557d10334cf0 len:176
\tINODE: #regs:2   ino:0x80  flags:0x1   dsize:0
\tCORE inode:
"""
GROUP = """
BUF: cnt:2 total:2 a:0x557d10334db0 len:24 a:0x557d10334e30 len:128
\tBUF:  #regs:2   start blkno:0x2   len:1   bmap size:1   flags:0x3800
\tAGI Buffer: (XAGI)
"""


@pytest.mark.parametrize(
    ("body", "state", "transactions", "others"),
    [
        ("", "CLEAN", 0, set()),
        (SUPERBLOCK, "DIRTY", 1, set()),
        (SUPERBLOCK * 2, "DIRTY", 2, set()),
        (SUPERBLOCK + INODE, "DIRTY", 2, {"INO", "INODE", "CORE"}),
        (SUPERBLOCK + GROUP, "DIRTY", 1, {"BUF", "AGI"}),
        ("xfs_logprint: unknown log operation type", "DIRTY", 0, {"xfs_logprint"}),
    ],
)
def test_xfs_logprint(body: str, state: str, transactions: int, others: set[str]) -> None:
    log = of_xfs_logprint((LOG.format(state=state) + body).splitlines())
    assert (log.state, log.transactions, log.others) == (state, transactions, others)


@pytest.mark.parametrize("text", ["", "xfs_logprint: cannot open x", "log tail: 1 head: 2 state:"])
def test_xfs_logprint_without_a_state(text: str) -> None:
    assert of_xfs_logprint(text.splitlines()).state is None


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "nothing"),
        ([" ", ""], "nothing"),
        (["  a \t b "], "a b"),
        (["a", "", "b", "c"], "a; b; c"),
        (["a", "b", "c", "d"], "a; b; c; and 1 more lines"),
        (["x" * 1000], "x" * 300),
    ],
)
def test_quote(lines: list[str], text: str) -> None:
    assert quote(lines) == text
