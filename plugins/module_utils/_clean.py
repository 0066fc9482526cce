# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging whether a snapshot was taken of a quiesced filesystem, without changing the snapshot.

What "quiesced" looks like differs: ext4 leaves nothing to recover; XFS dirties its log on purpose,
with records of its superblock alone; btrfs has no tree of fsyncs to replay. A complaint of a tool
that is not known to be harmless counts against the snapshot.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils import _complaints as complaints
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError

FSTYPES = ("ext2", "ext3", "ext4", "xfs", "btrfs")
PACKAGES = {
    "e2fsck": "e2fsprogs",
    "xfs_repair": "xfsprogs",
    "xfs_logprint": "xfsprogs",
    "btrfs": "btrfs-progs",
}

_EXT_AT = 1024
_EXT_MAGIC = (_EXT_AT + 0x38, b"\x53\xef")
_EXT_STATE = _EXT_AT + 0x3A
_EXT_COMPAT = _EXT_AT + 0x5C
_EXT_INCOMPAT = _EXT_AT + 0x60
_EXT_HAS_JOURNAL = 0x4
_EXT_NEEDS_RECOVERY = 0x4
# Extents, 64 bit, multiple mount protection, flexible groups: what made ext3 into ext4.
_EXT4_INCOMPAT = 0x40 | 0x80 | 0x100 | 0x200
_EXT_ERRORS_SEEN = 0x2
_XFS_MAGIC = (0, b"XFSB")
_BTRFS_AT = 64 * 1024
_BTRFS_MAGIC = (_BTRFS_AT + 0x40, b"_BHRfS_M")
_BTRFS_LOG_ROOT = _BTRFS_AT + 0x60
_BTRFS_SUBVOLUME_INODE = 256
_HEAD_BYTES = _BTRFS_AT + 4096

# Where to look for tools when nobody says so.
_SEARCH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"],
)


@dataclass
class Check:
    """One look at the snapshot.

    ``argv`` and ``rc`` are of the tool that looked, empty and None where no tool was needed.
    """

    name: str
    argv: list[str]
    rc: int | None
    ok: bool
    summary: str


@dataclass
class Verdict:
    """What was found: ``clean`` is true if every check is ``ok``, else ``reasons`` says why not."""

    fstype: str | None = None
    reasons: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether the snapshot is one of a quiesced filesystem."""
        return bool(self.checks) and not self.reasons

    def add(self, name: str, good: str, reasons: list[str], ran: _Ran | None = None) -> None:
        """Note a check, which is passed if there are no ``reasons`` against it."""
        argv, rc = (ran.argv, ran.rc) if ran else ([], None)
        summary = " ".join(reasons) if reasons else good
        self.checks.append(Check(name, argv, rc, not reasons, summary))
        self.reasons.extend(reasons)

    def as_dict(self) -> dict[str, Any]:
        """Return it as a module returns it."""
        return {"clean": self.clean, **asdict(self)}


@dataclass
class _Ran:
    argv: list[str]
    rc: int
    lines: list[str]


def judge(
    path: str, fstype: str | None = None, orphans: bool = False, search: str | None = None
) -> Verdict:
    """Judge the snapshot at ``path``, which is opened for reading only.

    :param path: an image file, a block device, or the folder of a btrfs subvolume snapshot.
    :param fstype: the type that it has to be; None for whichever it is.
    :param orphans: whether files that were open but unlinked count against it.
    :param search: where to look for tools, like ``PATH``; None for ``PATH`` and the sbin folders.
    :raises QuiesceError: it cannot be judged: no such path, not to be read, or a tool is missing.
    """
    search = _SEARCH if search is None else search
    status, head = _look(path)
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        return _judge_folder(path, fstype, status.st_ino, search)
    verdict = Verdict(fstype=_detect(head))
    if verdict.fstype is None or (fstype and not _same_kind(fstype, verdict.fstype)):
        found = f"the superblock of {verdict.fstype}" if verdict.fstype else "no superblock"
        wanted = fstype or "ext2, ext3, ext4, XFS or btrfs"
        verdict.add("superblock", "", [f"{path} holds {found} where that of {wanted} should be."])
    elif verdict.fstype == "xfs":
        _judge_xfs(path, mode, orphans, search, verdict)
    elif verdict.fstype == "btrfs":
        _judge_btrfs(path, head, search, verdict)
    else:
        _judge_ext(path, head, orphans, search, verdict)
    return verdict


def check_btrfs_data(path: str, search: str | None, verdict: Verdict) -> None:
    """Have ``btrfs check`` read all data of a btrfs and compare it with its checksums.

    That needs no mount. Adds what it finds to ``verdict``; ``QuiesceError`` as :func:`judge`.
    """
    search = _SEARCH if search is None else search
    ran = _run(search, "btrfs", "check", "--readonly", "--check-data-csum", path)
    against = []
    wrong = [line for line in ran.lines if "expected csum" in line]
    if ran.rc or wrong:
        said = complaints.quote(wrong or ran.lines)
        against.append(f"btrfs check --check-data-csum says (rc {ran.rc}): {said}")
    good = "All data has the right checksums. Not mounted, since its original is."
    verdict.add("btrfs check --check-data-csum", good, against, ran)


def fstype_of(path: str) -> str | None:
    """The type of the filesystem in a snapshot, as :data:`FSTYPES`; None where it has none.

    ``QuiesceError``: as :func:`judge`.
    """
    status, head = _look(path)
    if stat.S_ISDIR(status.st_mode):
        return "btrfs" if status.st_ino == _BTRFS_SUBVOLUME_INODE else None
    return _detect(head)


def _look(path: str) -> tuple[os.stat_result, bytes]:
    """What is at ``path``, and where it is no folder, its beginning."""
    if not os.path.isabs(path) or "\0" in path:
        raise QuiesceError(f"{path!r} is not an absolute path; give one")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return status, b""
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISBLK(status.st_mode):
            raise QuiesceError(
                f"{path} is no image file, block device or btrfs subvolume; give one of these"
            )
        with open(path, "rb") as file:
            return status, file.read(_HEAD_BYTES)
    except OSError as error:
        raise QuiesceError(f"{path} cannot be judged: {error.strerror}") from error


def _detect(head: bytes) -> str | None:
    if _has(head, _XFS_MAGIC):
        return "xfs"
    if _has(head, _BTRFS_MAGIC):
        return "btrfs"
    if not _has(head, _EXT_MAGIC):
        return None
    if _number(head, _EXT_INCOMPAT, 4) & _EXT4_INCOMPAT:
        return "ext4"
    return "ext3" if _number(head, _EXT_COMPAT, 4) & _EXT_HAS_JOURNAL else "ext2"


def _same_kind(wanted: str, found: str) -> bool:
    """Compare types; the three of the ext family are told apart by features, and mount as ext4."""
    return wanted == found or (wanted.startswith("ext") and found.startswith("ext"))


def _has(head: bytes, magic: tuple[int, bytes]) -> bool:
    offset, value = magic
    return head[offset : offset + len(value)] == value


def _number(head: bytes, offset: int, size: int) -> int:
    return int.from_bytes(head[offset : offset + size], "little")


def _run(search: str, *argv: str) -> _Ran:
    tool = shutil.which(argv[0], path=search)
    if tool is None:
        package = PACKAGES[argv[0]]
        raise QuiesceError(f"{argv[0]} is not installed; install the package {package}")
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        [tool, *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return _Ran(list(argv), done.returncode, lines)


def _judge_ext(path: str, head: bytes, orphans: bool, search: str, verdict: Verdict) -> None:
    against = []
    if _number(head, _EXT_INCOMPAT, 4) & _EXT_NEEDS_RECOVERY:
        against.append("The journal has to be replayed (needs_recovery): it was not frozen.")
    if _number(head, _EXT_STATE, 2) & _EXT_ERRORS_SEEN:
        against.append("The kernel had found errors in this filesystem before the snapshot.")
    verdict.add("superblock", "The journal needs no recovery.", against)

    ran = _run(search, "e2fsck", "-fn", path)
    unknown = complaints.of_e2fsck(ran.lines, orphans)
    against = []
    if ran.rc not in (0, 4) or (ran.rc and unknown):
        against.append(f"e2fsck -fn says (rc {ran.rc}): {complaints.quote(unknown)}")
    good = "Nothing wrong." if ran.rc == 0 else "Nothing wrong but files open and unlinked."
    verdict.add("e2fsck", good, against, ran)


def _judge_btrfs(path: str, head: bytes, search: str, verdict: Verdict) -> None:
    against = []
    if _number(head, _BTRFS_LOG_ROOT, 8):
        against.append("There is a log tree of fsyncs to replay (log_root): it was not frozen.")
    verdict.add("log_root", "There is no log tree to replay.", against)

    ran = _run(search, "btrfs", "check", "--readonly", path)
    against = []
    if ran.rc:
        against.append(f"btrfs check says (rc {ran.rc}): {complaints.quote(ran.lines)}")
    verdict.add("btrfs check", "Nothing wrong.", against, ran)


def _judge_folder(path: str, fstype: str | None, inode: int, search: str) -> Verdict:
    """Judge a subvolume: btrfs itself makes a snapshot of one whole, unless it is written to."""
    verdict = Verdict()
    if inode != _BTRFS_SUBVOLUME_INODE or fstype not in (None, "btrfs"):
        wanted = fstype or "btrfs subvolume"
        verdict.add(
            "subvolume", "", [f"{path} is a folder where a snapshot of {wanted} should be."]
        )
        return verdict
    ran = _run(search, "btrfs", "property", "get", "-ts", path, "ro")
    against = []
    if ran.rc:
        against.append(f"btrfs property says (rc {ran.rc}): {complaints.quote(ran.lines)}")
    elif ran.lines != ["ro=true"]:
        against.append(f"The subvolume {path} can be written to, so it is no fixed snapshot.")
    verdict.fstype = None if ran.rc else "btrfs"
    verdict.add("subvolume", "A read-only subvolume.", against, ran)
    return verdict


def _judge_xfs(path: str, mode: int, orphans: bool, search: str, verdict: Verdict) -> None:
    log = _run(search, "xfs_logprint", "-t", path)
    found = complaints.of_xfs_logprint(log.lines)
    against = []
    if log.rc or found.state is None:
        against.append(f"xfs_logprint -t says (rc {log.rc}): {complaints.quote(log.lines)}")
    elif found.others:
        against.append(
            f"The log has to be replayed, {found.transactions} transactions with more than the "
            f"superblock in them ({', '.join(sorted(found.others))}): it was not frozen."
        )
    good = f"{found.transactions} transactions, of the superblock alone."
    verdict.add("xfs_logprint", good, against, log)

    as_file = ["-f"] if stat.S_ISREG(mode) else []
    ran = _run(search, "xfs_repair", "-n", *as_file, path)
    unknown = complaints.of_xfs_repair(ran.lines, dirty=found.state == "DIRTY", orphans=orphans)
    against = []
    if ran.rc not in (0, 1) or unknown:
        against.append(f"xfs_repair -n says (rc {ran.rc}): {complaints.quote(unknown)}")
    good = "Nothing wrong." if ran.rc == 0 else "Nothing wrong but what a freeze leaves behind."
    verdict.add("xfs_repair", good, against, ran)
