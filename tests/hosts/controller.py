# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible inside of a test host, for what only happens where the controller is the managed host.

It is copied, not mounted: a mount would show the host a filesystem of the machine, and on a disk
of the host's own it is frozen as the controller of a real machine would be.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .host import Host

_FOLDER = "/opt/controller"
_REPOSITORY = Path(__file__).parents[2]
_COLLECTION = ("galaxy.yml", "meta", "playbooks", "plugins", "roles")
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_SURPLUS = ("config-*", "dist-packages", "idlelib", "site-packages", "test", "tests", "tkinter")


def install_controller(host: Host) -> list[str]:
    """Copy this Python, its ansible-core and this collection into a host.

    Returns the command of the machine that runs Ansible there; what follows it is ``playbook``,
    ``adhoc`` and so on, and the arguments of that.
    """
    target = host.outside(_FOLDER)
    library = target / "lib" / _PYTHON
    base = Path(sys.base_prefix)
    ignore = shutil.ignore_patterns(*_SURPLUS)
    shutil.copytree(base / "lib" / _PYTHON, library, symlinks=True, ignore=ignore)
    (target / "bin").mkdir()
    shutil.copy2(base / "bin" / _PYTHON, target / "bin")
    for shared in (base / "lib").glob(f"lib{_PYTHON}*.so*"):
        shutil.copy2(shared, target / "lib")
    packages = library / "site-packages"
    # Where a Python that is Debian's own looks instead.
    (library / "dist-packages").symlink_to(packages.name)
    for distribution in _needed("ansible-core", set()):
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and source.is_file():
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, packages / file)
    collection = packages / "ansible_collections/quiesce/storage"
    collection.mkdir(parents=True)
    for name in _COLLECTION:
        source = _REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, collection / name)
        else:
            shutil.copy2(source, collection)
    python = f"{_FOLDER}/bin/{_PYTHON}"
    environment = {
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "LD_LIBRARY_PATH": f"{_FOLDER}/lib",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    }
    settings = [f"{name}={value}" for name, value in environment.items()]
    return [*host.inside("env", "-i", *settings), python, "-m", "ansible"]


def _needed(name: str, seen: set[str]) -> Iterator[importlib.metadata.Distribution]:
    """A distribution and those that it requires."""
    distribution = importlib.metadata.distribution(name)
    seen.add(distribution.name)
    yield distribution
    for requirement in distribution.requires or ():
        found = re.match(r"[\w.-]+", requirement)
        if found is None or "extra ==" in requirement or found[0] in seen:
            continue
        try:
            yield from _needed(found[0], seen)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another Python than this
