#!/usr/bin/env bash
# Sets up what is missing, and is quick where nothing is.
#   setup.sh link      the checkout, reachable as a collection
#   setup.sh venv      that, and the tools from PyPI
#   setup.sh system    all that, and the tools from the distribution
#   setup.sh collections  all that, and the collections of others that we use
#   setup.sh applications    all that, and the databases and backup programs
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

REQUIREMENTS=$ROOT/tests/requirements/dev.txt
PACKAGES=$ROOT/tests/requirements/packages.txt
COLLECTIONS=$ROOT/tests/requirements/collections.txt
APPLICATIONS=$ROOT/tests/requirements/applications.txt

# The real path of a Python that is new enough (a shim of pyenv or a venv hides it). The distribution's comes
# first: it is what most have, and it starts an ansible-playbook in an eighth less time than one that pyenv built.
find_python() {
    local name found
    for name in ${QUIESCE_PYTHON:-} /usr/bin/python3 python3 python3.{13,12,11,14} \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9].*/bin/python3; do
        found=$("$name" -c '
import importlib.util, os, sys
sys.version_info >= (3, 11) or sys.exit(1)
# What it lacks can be installed by root.
os.geteuid() == 0 or importlib.util.find_spec("ensurepip") or sys.exit(1)
print(os.path.realpath(sys.executable))' 2>/dev/null </dev/null) || continue
        printf '%s\n' "$found"
        return
    done
    die "no Python 3.11 or newer found; install one, or name it: make QUIESCE_PYTHON=/path/to/python …"
}

setup_link() {
    local link=$ROOT/collections/ansible_collections/quiesce/storage
    [ "$(readlink "$link" || true)" = "$ROOT" ] && return
    mkdir -p "${link%/*}"
    ln -sfn "$ROOT" "$link"
}

setup_venv() {
    local stamp wanted python version
    stamp=$VENV/quiesce-stamp
    # Good for as long as these stay the same, and its Python still starts.
    wanted="$VENV ${QUIESCE_PYTHON:-any} $(sha256sum <"$REQUIREMENTS")"
    [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && "$VENV/bin/python" -c '' && return
    python=$(find_python)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install "python$version-venv"
    say "setting up a virtual environment with Python $version in $VENV"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
    say "installing the tools from PyPI (tests/requirements/dev.txt)"
    "$VENV/bin/python" -m pip install --disable-pip-version-check -r "$REQUIREMENTS" \
        >"$CACHE/pip.log" 2>&1 </dev/null || { cat "$CACHE/pip.log" >&2; die "pip install failed"; }
    printf '%s\n' "$wanted" >"$stamp"
}

# install_missing FILE: the packages of those commands in it that are not there.
install_missing() {
    local command package missing=()
    while read -r command package; do
        case $command in '' | '#'*) continue ;; esac
        command -v "$command" >/dev/null && continue
        case " ${missing[*]-} " in *" $package "*) ;; *) missing+=("$package") ;; esac
    done <"$1"
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# In a folder of their own, which the link's folder points to: who empties one keeps the other.
setup_collections() {
    local folder=$CACHE/collections stamp wanted package name names=() link
    stamp=$folder/quiesce-stamp
    wanted=$(sha256sum <"$COLLECTIONS")
    package=$(sed -n 's/^package //p' "$COLLECTIONS")
    mapfile -t names < <(grep -E '^[a-z]+\.[a-z]+$' "$COLLECTIONS")
    if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
        say "getting collections out of $package from PyPI (tests/requirements/collections.txt)"
        rm -rf "$folder" "$CACHE/wheel"
        "$VENV/bin/python" -m pip download --disable-pip-version-check --no-deps --only-binary=:all: \
            --dest "$CACHE/wheel" "$package" >"$CACHE/pip.log" 2>&1 </dev/null ||
            { cat "$CACHE/pip.log" >&2; die "pip download failed"; }
        "$VENV/bin/python" "$ROOT/tests/tools/unpack.py" "$CACHE/wheel/"*.whl "$folder" "${names[@]}"
        rm -rf "$CACHE/wheel"
        printf '%s\n' "$wanted" >"$stamp"
    fi
    for name in "${names[@]}"; do
        link=$ROOT/collections/ansible_collections/${name/./\/}
        mkdir -p "${link%/*}"
        ln -sfn "$folder/ansible_collections/${name/./\/}" "$link"
    done
}

lock setup
case ${1:-} in
link) setup_link ;;
venv) setup_link && setup_venv ;;
system) setup_link && setup_venv && install_missing "$PACKAGES" ;;
collections) setup_link && setup_venv && install_missing "$PACKAGES" && setup_collections ;;
applications)
    setup_link && setup_venv && install_missing "$PACKAGES" && install_missing "$APPLICATIONS"
    ;;
*) die "usage: setup.sh link|venv|system|collections|applications" ;;
esac
