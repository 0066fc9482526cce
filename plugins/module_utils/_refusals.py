# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a freeze did not come about, by the word that the guard has for it."""

from __future__ import annotations

# To be filled in: which filesystem, the name of the lease, that of another one, and seconds.
REASONS = {
    "late": "the time agreed (at) came before %(which)s was ready to be frozen: it was too near, "
    "or the flush took too long",
    "forgotten": "no time to freeze %(which)s was agreed on within %(timeout)d s (timeout)",
    "rival": "lease %(rival)r freezes a filesystem of this set just now, and was first; wait for "
    "its end, or thaw it (state=thawed, lease=%(rival)s)",
    "lease_taken": "lease %(lease)r is held by another guard",
    "witness": "%(which)s was frozen, but nothing could be set to watch over it",
    "flush_timeout": "the flush before the freeze did not end within %(flush)d s (flush_timeout) "
    "and %(freeze_timeout)d s more: the storage is too slow",
    "freeze_timeout": "%(which)s was not frozen within %(freeze_timeout)d s (freeze_timeout): its "
    "storage is too slow. The kernel cannot be stopped in that, and the guard thaws it the "
    "moment that it is done",
    "deadline": "%(which)s was not frozen when the deadline (timeout: %(timeout)d s) came; the "
    "guard thaws it the moment that the kernel is done",
    "freezer_lost": "the process that froze %(which)s was killed",
    "terminated": "the guard was told to end (SIGTERM) while it froze %(which)s",
    "broken": "%(which)s was thawed by somebody else while the rest of the set was being frozen",
    "thawed": "a thaw was asked for while %(which)s was being frozen",
    "no_room": "the guard cannot keep its record under /run/quiesce, which is full or read-only",
    "silent": "the guard of lease %(lease)r did not answer any more, as one that was stopped, and "
    "was killed",
    "lost": "the guard was killed while it froze %(which)s",
}
