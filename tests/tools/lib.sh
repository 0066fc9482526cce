# Sourced by the scripts beside it: where things are, and how to say things.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# Everything that is made lives here; QUIESCE_CACHE moves it elsewhere.
CACHE=${QUIESCE_CACHE:-$ROOT/.cache}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd -P)
VENV=$CACHE/venv

# mkfs, losetup and others are there, and `su` leaves them out of root's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '>>> %s\n' "$*"; }

die() {
    printf '!!! %s\n' "$*" >&2
    exit 1
}

# lock NAME: held for as long as the calling script runs, so that several `make` at once do
# not get into each other's way. What may leave a process behind is started with 9>&-.
lock() {
    exec 9>"$CACHE/$1.lock"
    flock 9
}

# apt_install PACKAGE…: from the distribution.
apt_updated=
apt_install() {
    command -v apt-get >/dev/null ||
        die "missing: $*. Here is no apt-get to install that with; install it by hand."
    [ "$(id -u)" = 0 ] || die "missing: $*. Run this as root, or: apt-get install $*"
    say "installing from the distribution: $*"
    export DEBIAN_FRONTEND=noninteractive
    local log=$CACHE/apt.log
    if [ -z "$apt_updated" ]; then
        apt-get -q update >"$log" 2>&1 </dev/null 9>&- || { cat "$log" >&2; die "apt-get update failed"; }
        apt_updated=yes
    fi
    apt-get -q install -y --no-install-recommends "$@" >"$log" 2>&1 </dev/null 9>&- ||
        { cat "$log" >&2; die "apt-get install $* failed"; }
}

# enter_lab WHAT: root, the tools, loop devices and the environment, for what mounts and freezes.
enter_lab() {
    [ "$(id -u)" = 0 ] || die "$1 mount and freeze filesystems: run them as root"
    "$ROOT/tests/tools/setup.sh" system
    [ -e /dev/loop-control ] || modprobe loop 2>/dev/null || true
    [ -e /dev/loop-control ] || die "$1 need loop devices, and there is no /dev/loop-control"
    enter_venv
    cd "$ROOT"
}

# enter_venv: what every tool runs in. The user's own settings for Ansible and Python
# stay outside, or a test would mean something else on every machine.
enter_venv() {
    local name
    # A shim of pyenv answers to the names of Pythons that it does not have, which ends
    # ansible-test and misleads Ansible's search for an interpreter.
    PATH=$(tr ':' '\n' <<<"$PATH" | grep -v '/shims$' | paste -sd: -)
    for name in $(compgen -e | grep '^ANSIBLE_' || true); do
        unset "$name"
    done
    unset PYTHONPATH PYTHONHOME
    export VIRTUAL_ENV=$VENV
    export PATH=$VENV/bin:$PATH
    export LC_ALL=C.UTF-8 # Ansible insists on UTF-8
    [ -t 1 ] || export NO_COLOR=1
    export HYPOTHESIS_STORAGE_DIRECTORY=$CACHE/hypothesis
    export ANSIBLE_HOME=$CACHE/ansible
    export ANSIBLE_CONFIG=$ROOT/ansible.cfg
    export ANSIBLE_COLLECTIONS_PATH=$ROOT/collections
    export ANSIBLE_LOCALHOST_WARNING=false
    export ANSIBLE_INVENTORY_UNPARSED_WARNING=false
}

# install_also NAME: what tests/requirements/NAME.txt lists, into the environment, for one chore alone.
install_also() {
    local file=$ROOT/tests/requirements/$1.txt stamp=$VENV/quiesce-$1 wanted=
    wanted=$(sha256sum <"$file")
    [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && return
    say "installing from PyPI: tests/requirements/$1.txt"
    "$VENV/bin/python" -m pip install --disable-pip-version-check -r "$file" \
        >"$CACHE/pip.log" 2>&1 </dev/null || { cat "$CACHE/pip.log" >&2; die "pip install failed"; }
    printf '%s\n' "$wanted" >"$stamp"
}

# stage NAME: a real copy of the collection at a path that ansible-test accepts; prints it.
stage() {
    local copy=$CACHE/$1/ansible_collections/quiesce/storage
    "$VENV/bin/python" "$ROOT/tests/tools/stage.py" "$ROOT" "$copy"
    # Tools list files with git, and the repository around the copy would say: all ignored.
    [ -d "$copy/.git" ] || git init --quiet "$copy"
    printf '%s\n' "$copy"
}
