#!/usr/bin/env bash
# The molecule scenario `default` on a copy of the collection. Arguments replace `test`:
# molecule.sh converge, molecule.sh test -s other
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

[ -f "$ROOT/extensions/molecule/default/molecule.yml" ] ||
    die "extensions/molecule/default/molecule.yml is missing"
"$ROOT/tests/tools/setup.sh" system
enter_venv

# molecule installs the collection below ANSIBLE_HOME and looks for it there too. An old
# one must not be found, nor one that the user has in ~/.ansible.
lock molecule
export ANSIBLE_HOME=$CACHE/molecule/home
rm -rf "$ANSIBLE_HOME/collections"
copy=$(stage molecule)
export ANSIBLE_COLLECTIONS_PATH=$CACHE/molecule ANSIBLE_CONFIG=$copy/ansible.cfg
cd "$copy"
molecule "${@:-test}" 9>&-
