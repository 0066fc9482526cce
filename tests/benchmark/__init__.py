# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measurements: how long writers wait, what a task costs, what a fleet costs.

``make bench`` takes them all and writes docs/performance.md.
"""
