# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.quiesce.storage.plugins.plugin_utils._quiet import QuietAction


class ActionModule(QuietAction):
    """Runs the module ``fsfreeze_run``."""
