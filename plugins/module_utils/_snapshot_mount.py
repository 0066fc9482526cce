# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot on its mountpoint: whether it is there, putting it there, and taking it away."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils import _loop, _readonly
from ansible_collections.quiesce.storage.plugins.module_utils._clean import fstype_of
from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError, shown
from ansible_collections.quiesce.storage.plugins.module_utils._mounts import (
    Mount,
    MountTable,
    check_absolute,
)

# Others look into what has been mounted just now, and let go of it.
_BUSY_SECONDS = 3.0
_RELEASED_SECONDS = 5.0
_PAUSE_SECONDS = 0.05


class SnapshotMount:
    """The snapshot at ``path``, and the folder ``mountpoint``; both absolute."""

    def __init__(self, path: str, mountpoint: str) -> None:
        check_absolute([path, mountpoint])
        self.path = path
        self.mountpoint = os.path.realpath(mountpoint)

    def mount(self, fstype: str | None, check_mode: bool) -> dict[str, Any]:
        """Mount it read-only, unless it is; what the module returns.

        ``QuiesceError``: it cannot be mounted, or something else is there.
        """
        found = self._found()
        if found or check_mode:
            return self._result(not found, found)
        fstype = fstype or fstype_of(self.path)
        if not fstype:
            raise QuiesceError(
                "%s holds no filesystem that is known here (ext2, ext3, ext4, XFS, btrfs), and is "
                "no btrfs subvolume" % self.path
            )
        try:
            os.makedirs(self.mountpoint, 0o700, exist_ok=True)
            _readonly.mount(self.path, fstype, self.mountpoint)
        except _readonly.CannotMountError as error:
            raise QuiesceError(self._why(error)) from error
        except OSError as error:
            raise QuiesceError(
                "%s cannot be mounted on %s: %s" % (self.path, self.mountpoint, error.strerror)
            ) from error
        return self._result(True, self._found())

    def unmount(self, lazy: bool, check_mode: bool) -> dict[str, Any]:
        """Unmount it, if it is mounted; what the module returns.

        ``QuiesceError``: it is in use and ``lazy`` is not set, or something else is there.
        """
        found = self._found()
        if not found or check_mode:
            return self._result(bool(found), found)
        result = self._result(True, None)
        if not self._unmounted(lazy=False):
            if not lazy:
                raise QuiesceError(
                    "%s is in use, so %s cannot be unmounted; end what uses it, or set lazy"
                    % (self.mountpoint, self.path)
                )
            self._unmounted(lazy=True)
            result["msg"] = "%s was unmounted while in use; it is gone when its last user is" % (
                self.mountpoint
            )
        elif _loop.is_loop(found.source):
            self._wait_for(found.source)
        return result

    def _found(self) -> Mount | None:
        """The mount on the mountpoint, if it is this snapshot; None where nothing is mounted."""
        mounts = [each for each in MountTable().mounts if each.mountpoint == self.mountpoint]
        if not mounts:
            return None
        # The last one covers the others.
        if "ro" in mounts[-1].options and self._is_this(mounts[-1]):
            return mounts[-1]
        raise QuiesceError(
            "%s is the mountpoint of something else: %s on %s, %s; what a run that was killed has "
            "left there goes with umount, once nobody uses it"
            % (
                shown(self.mountpoint),
                mounts[-1].fstype,
                mounts[-1].source,
                ",".join(mounts[-1].options),
            )
        )

    def _is_this(self, mount: Mount) -> bool:
        if _loop.is_behind(mount.source, self.path):
            return True
        try:
            status, here = os.stat(self.path), os.stat(self.mountpoint)
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and os.path.samestat(status, here)

    def _result(self, changed: bool, found: Mount | None) -> dict[str, Any]:
        source = None
        if found:
            source = found.source if _loop.is_behind(found.source, self.path) else self.path
        return {
            "changed": changed,
            "mounted": found is not None,
            "mountpoint": self.mountpoint,
            "source": source,
        }

    def _unmounted(self, lazy: bool) -> bool:
        """Unmount it; false if it stayed in use for a while."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                _readonly.unmount(self.mountpoint, lazy)
                return True
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise QuiesceError(
                        "%s cannot be unmounted: %s" % (self.mountpoint, error.strerror)
                    ) from error
                if time.monotonic() > deadline:
                    return False
            time.sleep(_PAUSE_SECONDS)

    def _wait_for(self, device: str) -> None:
        """Wait until the kernel has detached the loop device; the snapshot is free then."""
        deadline = time.monotonic() + _RELEASED_SECONDS
        while _loop.is_behind(device, self.path):
            if time.monotonic() > deadline:
                raise QuiesceError(
                    "%s was unmounted, but %s still holds it; something uses the loop device"
                    % (self.path, device)
                )
            time.sleep(_PAUSE_SECONDS)

    def _why(self, error: _readonly.CannotMountError) -> str:
        if error.number == errno.EEXIST:
            return (
                "%s cannot be mounted while its original is, which has the same UUID; Linux 6.7 can"
                % self.path
            )
        return "%s cannot be mounted: %s" % (self.path, error.message)
