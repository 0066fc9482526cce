#!/usr/bin/env bash
# The fault table. Without a number each fault of a test host once, and arguments are pytest's; `faults.sh TIMES`
# makes all of the table that often, those that need a virtual machine too, and writes docs/faults.md when all have
# passed. What has passed of this code is kept in tests/faults/measured.jsonl, so that the same command goes on
# where an earlier one was stopped; `faults.sh page` makes the page of what there is so far.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

table=tests/faults/measured.jsonl
page() {
    PYTHONPATH=$ROOT python tests/tools/faults_page.py "$table" docs/faults.md
    say "docs/faults.md says what was measured"
}
# attempt TIMES ARGUMENT…: 5 is pytest's word for nothing left to try.
attempt() { pytest --times "$1" --table "$table" "${@:2}" || [ $? = 5 ]; }

if [ "${1:-}" = page ]; then
    "$ROOT/tests/tools/setup.sh" venv
    enter_venv
    cd "$ROOT"
    page
    exit
fi
enter_lab "the faults"
# Most of it is waiting for deadlines, so several faults at once.
at_once=${QUIESCE_FAULTS_AT_ONCE:-4}
[[ ${1:-} = [0-9]* ]] || exec pytest tests/faults -n "$at_once" "$@"
times=$1
shift
"$ROOT/tests/tools/vm_setup.sh"
attempt "$times" tests/faults -n "$at_once" "$@"
# An emulated machine keeps a processor busy.
attempt "$times" tests/vm/test_faults_*.py -n 2 "$@"
page
