#!/usr/bin/env bash
# The fault table. Without a number each fault of a test host once, and arguments are pytest's; `faults.sh TIMES`
# makes all of the table that often, those that need a virtual machine too, and writes docs/faults.md when all have
# passed. What has passed of this code is kept in tests/faults/measured.jsonl, so that the same command goes on
# where an earlier one was stopped; `faults.sh page` makes the page of what there is so far, and
# `faults.sh complete [TIMES]` says which rows lack how many of their 20 turns, and fails if one does.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

table=tests/faults/measured.jsonl
page() {
    PYTHONPATH=$ROOT python tests/tools/faults_page.py page "$table" docs/faults.md
    say "docs/faults.md says what was measured"
}
# attempt TIMES ARGUMENT…: 5 is pytest's word for nothing left to try.
attempt() { pytest --times "$1" --table "$table" "${@:2}" || [ $? = 5 ]; }

# collect FILE ARGUMENT…: the names of tests.
collect() {
    pytest --collect-only -q --times "$times" "${@:2}" >"$1" || { cat "$1" >&2; die "pytest collects nothing"; }
}

complete() {
    local lists releases
    lists=$(mktemp -d)
    # shellcheck disable=SC2064  # it is local
    trap "rm -rf '$lists'" EXIT
    collect "$lists/tests" tests/faults tests/vm/test_faults_*.py
    # `make test-vm` measures on more releases.
    releases=$(sed -n 's/^RELEASES := //p' Makefile)
    QUIESCE_VM_RELEASES=$releases collect "$lists/others" tests/vm/test_faults_*.py
    PYTHONPATH=$ROOT python tests/tools/faults_page.py complete "$table" "$lists/tests" "$lists/others"
}

case ${1:-} in
page | complete)
    times=${2:-20}
    "$ROOT/tests/tools/setup.sh" venv
    enter_venv
    cd "$ROOT"
    "$1"
    exit
    ;;
esac
enter_lab "the faults"
# Most of it is waiting for deadlines, so several faults at once.
at_once=${QUIESCE_FAULTS_AT_ONCE:-4}
hosts=(tests/faults -n "$at_once")
# A thaw writes to the disk, and what the others write there must not come between it and a deadline. In memory
# they have no disk in common; most need 1 GiB.
memory=/dev/shm
free=$(df --output=avail --block-size=1G "$memory" | tail -n 1)
available=$(awk '$1 == "MemAvailable:" { print int($2 / 1048576) }' /proc/meminfo)
if [ "$((free < available ? free : available))" -ge $((4 * at_once)) ]; then
    hosts+=(--labs "$memory")
fi
[[ ${1:-} = [0-9]* ]] || exec pytest "${hosts[@]}" "$@"
times=$1
shift
"$ROOT/tests/tools/vm_setup.sh"
attempt "$times" "${hosts[@]}" "$@"
# An emulated machine keeps a processor busy.
attempt "$times" tests/vm/test_faults_*.py -n 2 "$@"
page
