#!/usr/bin/env bash
# The fault table. Without arguments each fault once; else `faults.sh TIMES` makes each that often
# and writes docs/faults.md.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

enter_lab "the faults"
# Most of it is waiting for deadlines, so several faults at once.
run=(pytest tests/faults -n "${QUIESCE_FAULTS_AT_ONCE:-4}")
if [ $# = 0 ]; then
    exec "${run[@]}"
fi
measured=$CACHE/faults.jsonl
rm -f "$measured"
"${run[@]}" --times "$1" --table "$measured"
cat "$measured" "$CACHE"/faults-vm.jsonl >"$CACHE/faults-all.jsonl" 2>/dev/null || true
python tests/faults/publish.py "$CACHE/faults-all.jsonl" docs/faults.md
say "docs/faults.md says what was measured"
