#!/usr/bin/env bash
# mypy over the plugins, under the names that Ansible imports them by, and over all
# other Python code; then the check for Python 3.8.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
"$ROOT/tests/tools/setup.sh" venv
enter_venv
cd "$ROOT"

[ -d plugins/module_utils ] || die "plugins/module_utils is missing"
say "mypy: plugins"
mypy -p ansible_collections.quiesce.storage.plugins
say "mypy: tests, and what playbooks and roles bring along"
mapfile -t others < <(find tests playbooks roles -name '*.py' -not -path 'tests/output/*')
mypy "${others[@]}"
exec tests/tools/py38.sh
