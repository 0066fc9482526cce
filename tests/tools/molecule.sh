#!/usr/bin/env bash
# A molecule scenario, on a copy of the collection: `default`, or what QUIESCE_SCENARIO says. Arguments
# replace `test`: molecule.sh converge
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

scenario=${QUIESCE_SCENARIO:-default}
[ -f "$ROOT/extensions/molecule/$scenario/molecule.yml" ] ||
    die "extensions/molecule/$scenario/molecule.yml is missing"
"$ROOT/tests/tools/setup.sh" collections
enter_venv

# molecule installs the collection below ANSIBLE_HOME and looks for it there too. An old
# one must not be found, nor one that the user has in ~/.ansible.
lock "molecule-$scenario"
export ANSIBLE_HOME=$CACHE/molecule/$scenario/home
rm -rf "$ANSIBLE_HOME/collections"
copy=$(stage "molecule/$scenario")
export ANSIBLE_COLLECTIONS_PATH=$CACHE/molecule/$scenario ANSIBLE_CONFIG=$copy/ansible.cfg
command=${1:-test}
[ $# = 0 ] || shift
cd "$copy"
molecule "$command" --scenario-name "$scenario" "$@" 9>&-
