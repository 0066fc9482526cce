#!/usr/bin/env bash
# ansible-test sanity without an ignore file: every test with the Python of the virtual
# environment, and compile and import tests with every other Python found here.
# Arguments go to ansible-test: sanity.sh --test validate-modules
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
"$ROOT/tests/tools/setup.sh" system
enter_venv
lock sanity

ignored=$(find "$ROOT/tests/sanity" -name 'ignore*' 2>/dev/null || true)
[ -z "$ignored" ] || die "ignore files are not allowed here: $ignored"

# ansible-test keeps its environments in HOME, and passes nothing but HOME on; so it gets one
# of its own, with the user's settings for pip in it, and the stand-in for the script that it
# would download.
export HOME_OF_USER=$HOME HOME=$CACHE/home
mkdir -p "$HOME/.ansible/test/cache" "$HOME/.config"
for settings in .config/pip .pip; do
    [ ! -e "$HOME_OF_USER/$settings" ] || ln -sfn "$HOME_OF_USER/$settings" "$HOME/$settings"
done
package=$(python -c 'import ansible_test; print(ansible_test.__path__[0])')
versions=$(sed -n "s/^ *pip='\([0-9.]*\)',$/\1/p" "$package/_internal/python_requirements.py")
[ -n "$versions" ] || die "this ansible-test does not say which pip it wants; see tests/tools/sanity.sh"
for version in $versions; do
    cp "$ROOT/tests/tools/get_pip.py" "$HOME/.ansible/test/cache/get_pip_${version//./_}.py"
done

# Pythons other than our own which ansible-test knows, and which can make a virtual environment.
own=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
known=$(python - <<'PYTHON'
from ansible_test._util.target.common import constants

print(*constants.REMOTE_ONLY_PYTHON_VERSIONS, *constants.CONTROLLER_PYTHON_VERSIONS)
PYTHON
)
targets=(--target-python "$own")
rm -rf "$CACHE/pythons"
mkdir "$CACHE/pythons"
found=$own
for version in $known; do
    [ "$version" != "$own" ] || continue
    for python in "python$version" \
        "${PYENV_ROOT:-$HOME_OF_USER/.pyenv}/versions/$version".*/bin/"python$version"; do
        real=$("$python" -c 'import ctypes, ensurepip, os, sys, venv
print(os.path.realpath(sys.executable))' 2>/dev/null </dev/null) || continue
        ln -sfn "$real" "$CACHE/pythons/python$version"
        targets+=(--target-python "$version")
        found+=" $version"
        break
    done
done

PATH=$CACHE/pythons:$PATH # it calls them by name

copy=$(stage sanity)
cd "$copy"
say "ansible-test sanity with Python $found"
ansible-test sanity --color no --controller "origin:python=$own" "${targets[@]}" "$@" 9>&-
