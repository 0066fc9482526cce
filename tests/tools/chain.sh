#!/usr/bin/env bash
# Runs targets of the Makefile one after the other, each under a heading, stops at the first
# that fails, and repeats at the end what pytest had to say.
#   chain.sh TARGET…
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

report=$(mktemp -d)
trap 'rm -rf "$report"' EXIT
number=0
for target in "$@"; do
    number=$((number + 1))
    printf '\n===== %d/%d  make %s =====\n' "$number" "$#" "$target"
    SECONDS=0
    # A pipe of our own: Ansible refuses to run where standard output does not block.
    if ! "${MAKE:-make}" --no-print-directory "$target" 2>&1 </dev/null | tee "$report/out"; then
        die "make test: FAILED in '$target' after $SECONDS s. To repeat only this part: make $target"
    fi
    say "$target: passed in $SECONDS s"
    grep -E '^=+ .*(passed|failed).* in [0-9.]+s.* =+$' "$report/out" |
        sed "s/^/$target: /" >>"$report/pytest" || true
done

printf '\n===== all %d parts passed: %s =====\n' "$#" "$*"
if [ -s "$report/pytest" ]; then
    sed 's/^[a-z]*: //' "$report/pytest"
fi
