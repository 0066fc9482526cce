# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling the complaints of filesystem checkers that a freeze explains from all the others.

Every function takes lines of a tool's output in the C locale and sorts out those that are known to
be harmless. A line that is not known stays in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_E2FSCK_HARMLESS = re.compile(
    r"e2fsck \d.*"
    r"|Pass \d: .*"
    r"|.*: \d+/\d+ files \(.*% non-contiguous\), \d+/\d+ blocks"
    r"|.*: \*+ WARNING: Filesystem still has errors \*+"
    r"|Inode \d+ extent tree \(at level \d+\) could be (narrower|shorter)\.  Optimize\? no"
    r"|Inodes that were part of a corrupted orphan linked list found\.  Fix\? no"
    r"|Orphan file \(inode \d+\) block \d+ is not clean\."
    r"|Failed to initialize orphan file\."
    r"|(Fix|Clear|Recreate)\? no"
)
_E2FSCK_ORPHAN = re.compile(
    r"Inode (\d+) was part of the orphaned inode list\.  IGNORED\."
    r"|Deleted inode (\d+) has zero dtime\.  Fix\? no"
)
# In use as the bitmap says, and not as the files say: "-" everywhere.
_E2FSCK_LEAK = re.compile(r"(Block|Inode) bitmap differences: ((?: -(?:\d+|\(\d+--\d+\)))+)")
_E2FSCK_FOLDERS = re.compile(r"Directories count wrong for group #\d+ \((\d+), counted=(\d+)\)\.")
# What an open but unlinked file occupies counts for its owner until it is closed.
_E2FSCK_QUOTA = re.compile(
    r"\[QUOTA WARNING\] Usage inconsistent for ID \d+:"
    r"actual \((\d+), (\d+)\) != expected \((\d+), (\d+)\)"
    r"|Update quota info for quota type \d\? no"
)
_RANGE = re.compile(r"-\(?(\d+)(?:--(\d+)\))?")

_XFS_REPAIR_HARMLESS = re.compile(
    r"Phase \d - .*"
    r"|\s+- .*"
    # An image file that is not stored on an XFS.
    r"|Cannot get host filesystem geometry\."
    r"|Repair may fail if there is a sector size mismatch between"
    r"|the image and the host filesystem\."
    # A host with little memory for so large a filesystem.
    r"|Memory available for repair \(\d+MB\) may not be sufficient\."
    r"|At least \d+MB is needed to repair this filesystem efficiently"
    r"|If repair fails due to lack of memory, please"
    r"|turn prefetching off \(-P\) to reduce the memory footprint\."
    r"|increase system RAM and/or swap space to at least \d+MB\."
    r"|No modify flag set, skipping (phase 5|filesystem flush and exiting\.)"
)
_XFS_REPAIR_LOG = re.compile(
    r"ALERT: The filesystem has valuable metadata changes in a log which is being"
    r"|ignored because the -n option was used\.  Expect spurious inconsistencies"
    r"|which may be resolved by first mounting the filesystem to replay the log\."
    r"|sb_fdblocks \d+, counted \d+"
)
_XFS_BUCKET = re.compile(r"agi unlinked bucket \d+ is \d+ in ag \d+ \(inode=(\d+)\)")
_XFS_NEXT = re.compile(r"Would clear next_unlinked in inode (\d+)")
_XFS_LOST = re.compile(r"disconnected (?:dir )?inode (\d+), would move to lost\+found")
_XFS_UNLINKED = re.compile(r"would have reset inode (\d+) nlinks from 0 to \d+")

_LOGPRINT_HARMLESS = re.compile(
    r"xfs_logprint:"
    r"|\s+(data|log) device: 0x[0-9a-f]+.*"
    r"|LOG REC AT LSN cycle \d+ block \d+ \(.*\)"
    r"|=+"
    r"|BUF: cnt:.*"
    r"|\s+BUF:  #regs:\d+   start blkno:(0x)?0   .*"
    r"|\s+SUPER Block Buffer:"
)
_LOGPRINT_STATE = re.compile(r"\s+log tail: \d+ head: \d+ state: <(\w+)>")
_LOGPRINT_TRANSACTION = re.compile(r"TRANS: tid:.*")

_QUOTE_LINES = 3
_QUOTE_LETTERS = 300


@dataclass
class Log:
    """What an XFS log holds.

    ``state`` is ``CLEAN`` or ``DIRTY``, None if not shown; ``others`` are the kinds of items in it
    that have nothing to do with the superblock.
    """

    state: str | None = None
    transactions: int = 0
    others: set[str] = field(default_factory=set)


def quote(lines: list[str]) -> str:
    """Return the first few of ``lines`` as one line, and how many more there are."""
    said = [" ".join(line.split()) for line in lines if line.strip()]
    text = "; ".join(said[:_QUOTE_LINES])[:_QUOTE_LETTERS]
    more = len(said) - _QUOTE_LINES
    return f"{text}; and {more} more lines" if more > 0 else text or "nothing"


def of_e2fsck(lines: list[str], orphans: bool) -> list[str]:
    """Return the complaints of ``e2fsck -fn`` that open but unlinked files do not explain.

    These are still allocated, though no folder names them: e2fsck names them as orphans or as
    deleted, and misses nothing in the bitmaps but what they occupy.

    :param orphans: whether such files are a complaint.
    """
    unknown = []
    named: set[int] = set()
    leaked: list[str] = []
    explained = []
    for line in lines:
        text = line.rstrip()
        orphan = _E2FSCK_ORPHAN.fullmatch(text)
        leak = _E2FSCK_LEAK.fullmatch(text)
        folders = _E2FSCK_FOLDERS.fullmatch(text)
        if orphan:
            explained.append(text)
            named.add(int(orphan.group(1) or orphan.group(2)))
        elif leak:
            explained.append(text)
            if leak.group(1) == "Inode":
                leaked.append(leak.group(2))
        elif folders and int(folders.group(1)) > int(folders.group(2)):
            explained.append(text)
        elif _counts_less(text):
            explained.append(text)
        elif text and not _E2FSCK_HARMLESS.fullmatch(text):
            unknown.append(text)
    if orphans or not named or not all(_within(ranges, named) for ranges in leaked):
        unknown.extend(explained)
    return unknown


def _counts_less(text: str) -> bool:
    """Whether e2fsck says that it has counted less for a quota than the filesystem has."""
    quota = _E2FSCK_QUOTA.fullmatch(text)
    if not quota or not quota.group(1):
        return bool(quota)
    room, files, expected_room, expected_files = map(int, quota.groups())
    return room <= expected_room and files <= expected_files


def _within(ranges: str, named: set[int]) -> bool:
    """Whether each number of these ranges is among the named."""
    for first, last in _RANGE.findall(ranges):
        numbers = range(int(first), int(last or first) + 1)
        if len(numbers) > len(named) or not named.issuperset(numbers):
            return False
    return True


def of_xfs_logprint(lines: list[str]) -> Log:
    """Return what ``xfs_logprint -t`` shows."""
    log = Log()
    for line in lines:
        state = _LOGPRINT_STATE.fullmatch(line.rstrip())
        if state:
            log.state = state.group(1)
        elif _LOGPRINT_TRANSACTION.match(line):
            log.transactions += 1
        elif line.strip() and not _LOGPRINT_HARMLESS.fullmatch(line.rstrip()):
            log.others.add(line.split()[0].rstrip(":"))
    return log


def of_xfs_repair(lines: list[str], dirty: bool, orphans: bool) -> list[str]:
    """Return the complaints of ``xfs_repair -n`` that a freeze does not explain.

    :param dirty: whether the log is dirty, as a freeze leaves it. The count of free blocks in the
        superblock is allowed to be off then.
    :param orphans: whether open but unlinked files are a complaint.
    """
    unknown: list[str] = []
    about_orphans: list[str] = []
    heads: set[int] = set()
    nexts: set[int] = set()
    lost: set[int] = set()
    unlinked: set[int] = set()
    kinds = ((_XFS_BUCKET, heads), (_XFS_NEXT, nexts), (_XFS_LOST, lost), (_XFS_UNLINKED, unlinked))
    for line in lines:
        text = line.rstrip()
        for pattern, inodes in kinds:
            match = pattern.fullmatch(text)
            if match:
                inodes.add(int(match.group(1)))
                about_orphans.append(text)
                break
        else:
            known = _XFS_REPAIR_HARMLESS.fullmatch(text)
            known = known or (_XFS_REPAIR_LOG.fullmatch(text) if dirty else None)
            if text and not known:
                unknown.append(text)
    # Each is the first of a list or follows another one, and has no name left.
    explained = lost == unlinked and heads | nexts <= lost and len(heads) + len(nexts) == len(lost)
    if orphans or not explained:
        unknown.extend(about_orphans)
    return unknown
