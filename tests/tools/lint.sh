#!/usr/bin/env bash
# yamllint and ansible-lint (profile production), offline, on a copy of the collection.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
"$ROOT/tests/tools/setup.sh" collections
enter_venv

lock lint
copy=$(stage lint)
export ANSIBLE_COLLECTIONS_PATH=$CACHE/lint:$CACHE/collections ANSIBLE_CONFIG=$copy/ansible.cfg
cd "$copy"
say "yamllint"
yamllint --strict .
say "ansible-lint"
ansible-lint --offline --nocolor "$@"
say "shellcheck"
shellcheck --external-sources .ci/run tests/tools/*.sh
