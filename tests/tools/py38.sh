#!/usr/bin/env bash
# Code that runs on managed hosts has to work on Python 3.8: no newer syntax, nothing from
# a newer standard library; and it has to compile with a real 3.8, where there is one.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
"$ROOT/tests/tools/setup.sh" venv
enter_venv
cd "$ROOT"

say "vermin: nothing newer than Python 3.8 in what runs on managed hosts"
hosts=(plugins/modules plugins/module_utils)
for folder in playbooks/files roles/*/files; do
    [ ! -d "$folder" ] || hosts+=("$folder")
done
vermin --quiet --no-tips --violations --target=3.8- "${hosts[@]}"

for python in python3.8 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.8.*/bin/python3.8; do
    "$python" -c '' 2>/dev/null || continue
    say "compiling all of plugins/ with $("$python" --version)"
    "$python" - plugins <<'PYTHON'
import pathlib, sys

for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.py")):
    compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
PYTHON
    exit
done
say "no Python 3.8 on this machine to compile with; vermin has judged alone"
