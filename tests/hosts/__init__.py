# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts that share the machine's kernel, each with a root filesystem and an sshd of its own.

with open_lab() as lab, open_host(lab, separate=["/var"]) as host:
    host.variables()     # for an inventory
"""

from __future__ import annotations

from .host import PASSWORD, USER, Host, open_host

__all__ = ["PASSWORD", "USER", "Host", "open_host"]
