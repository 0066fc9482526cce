# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a module so that Ansible itself writes nothing to a disk of the managed host.

A process that writes to a frozen filesystem sleeps until the thaw, and Ansible writes in many
places: module files below ``remote_tmp``, payloads below ``$TMPDIR``, login records of a
terminal, a log line. Here all of that goes to memory, or is left out.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

MEMORY = ("/dev/shm", "/run")
"""Where Linux has a tmpfs: the first is for everybody, the second for root alone."""

# Python looks through these in this order for a folder that it can write to.
_ENVIRONMENT = {
    "TMPDIR": MEMORY[0],
    "TEMP": MEMORY[1],
    "TMP": MEMORY[1],
    "PYTHONDONTWRITEBYTECODE": "1",
}


# What Ansible builds for a local connection: a payload is the same for all tasks of a run, and
# building it takes longer than running it. The name cannot be foreseen: nobody else can make it.
_BUILT = os.path.join(MEMORY[0], f"ansible-quiesce-{secrets.token_hex(16)}")


def _forget_built(pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(_BUILT, ignore_errors=True)


# Of the main process alone: workers are forked for each task, and end without this.
_IN_MAIN = multiprocessing.parent_process() is None
if _IN_MAIN:
    atexit.register(_forget_built, os.getpid())

# Ansible's main process imports this before the first freeze, and other plugins after it. Where
# the controller is the managed host, to keep their byte code would block the whole play.
sys.dont_write_bytecode = True


class QuietAction(ActionBase):
    """An action that runs the module of its name, quietly."""

    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the module, as Ansible's own ``normal`` does."""
        if self._task.async_val:
            raise AnsibleActionFail(
                "async is not for this action: Ansible keeps the files of an asynchronous task on "
                "disk, in ~/.ansible_async, and so could be blocked by what is frozen. Take async "
                "and poll away; the freeze has a deadline of its own (timeout)"
            )
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._look_ahead()
        with contextlib.ExitStack() as stack:
            for each in self._quieter():
                stack.enter_context(each)
            stack.callback(self._forget_tmp_path)
            result.update(self._ask({**(task_vars or {}), "ansible_no_target_syslog": True}))
        return result

    def _ask(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the module and return its answer."""
        answer: dict[str, Any] = self._execute_module(task_vars=task_vars)
        return answer

    def _look_ahead(self) -> None:
        """Say what would keep a later task from getting through; nothing, for most actions."""

    def _quieter(self) -> Iterator[contextlib.AbstractContextManager[None]]:
        """What has to be set while the module runs, and set back afterwards."""
        connection = self._connection
        if connection.has_pipelining:
            yield _option(connection, "pipelining", True)
        if not getattr(connection.become, "require_tty", False):
            # A terminal is entered in the login records.
            yield _option(connection, "use_tty", False)
        yield _option(connection._shell, "remote_tmp", MEMORY[0])
        yield self._environment()
        if connection.transport == "local":
            yield _local_tmp()

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        before = self._task.environment
        self._task.environment = [*(before or []), _ENVIRONMENT]
        try:
            yield
        finally:
            self._task.environment = before

    def _make_tmp_path(self, remote_user: str | None = None) -> str:
        """Make the folder for module files, where the connection cannot do without one.

        Not by ``mkdir -p``, which tries to make /dev first, and so waits for a frozen /.
        """
        name = self._connection._shell._generate_temp_dir_name()
        commands = [f"(mkdir -m 700 {parent}/{name} && echo {parent}/{name})" for parent in MEMORY]
        made = self._low_level_execute_command(" || ".join(commands), sudoable=False)
        if made["rc"] != 0:
            raise AnsibleActionFail(
                f"no folder for Ansible's own files can be made on a tmpfs ({', '.join(MEMORY)}), "
                f"and one on a disk could be blocked by what is frozen: {made['stderr'].strip()}"
            )
        self._cleanup_remote_tmp = True
        path = str(made["stdout"].splitlines()[-1].strip())
        self._connection._shell.tmpdir = path
        return path

    def _forget_tmp_path(self) -> None:
        self._remove_tmp_path(self._connection._shell.tmpdir)


@contextlib.contextmanager
def _option(plugin: Any, name: str, value: object) -> Iterator[None]:
    """Set an option of a plugin; nothing where it has none of that name."""
    try:
        before = plugin.get_option(name)
    except KeyError:
        yield
        return
    plugin.set_option(name, value)
    try:
        yield
    finally:
        plugin.set_option(name, before)


@contextlib.contextmanager
def _local_tmp() -> Iterator[None]:
    """Keep what the controller builds off its own disks, where it is the managed host itself."""
    with contextlib.ExitStack() as stack:
        before = constants.DEFAULT_LOCAL_TMP
        try:
            if _IN_MAIN:
                os.makedirs(_BUILT, mode=0o700, exist_ok=True)
                constants.DEFAULT_LOCAL_TMP = _BUILT
            else:
                folder = tempfile.TemporaryDirectory(prefix="ansible-quiesce-", dir=MEMORY[0])
                constants.DEFAULT_LOCAL_TMP = stack.enter_context(folder)
        except OSError:
            pass
        stack.callback(setattr, constants, "DEFAULT_LOCAL_TMP", before)
        yield
