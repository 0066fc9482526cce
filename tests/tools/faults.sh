#!/usr/bin/env bash
# The fault table. Without a number each fault once, and arguments are pytest's; `faults.sh TIMES` makes each
# that often, and writes docs/faults.md when all have passed. What has passed of this code is kept, so that the
# same command goes on where an earlier one was stopped; `faults.sh TIMES --afresh` begins again.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

enter_lab "the faults"
# Most of it is waiting for deadlines, so several faults at once.
run=(pytest tests/faults -n "${QUIESCE_FAULTS_AT_ONCE:-4}")
if [[ ${1:-} != [0-9]* ]]; then
    exec "${run[@]}" "$@"
fi
table=$CACHE/faults.jsonl
[ "${2:-}" != --afresh ] || rm -f "$table"
"${run[@]}" --times "$1" --table "$table" || [ $? = 5 ] # nothing left to try
cat "$table" "$CACHE"/faults-vm.jsonl >"$CACHE/faults-all.jsonl" 2>/dev/null || true
python tests/faults/publish.py "$CACHE/faults-all.jsonl" docs/faults.md
say "docs/faults.md says what was measured"
