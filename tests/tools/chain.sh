#!/usr/bin/env bash
# Runs targets of the Makefile one after the other, each under a heading, stops at the first
# that fails, and repeats at the end what pytest had to say.
#   chain.sh TARGET…
# vm+unit+lint is vm beside the others, which run one after the other: what it says comes after them.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

report=$(mktemp -d)
beside=
trap 'stop; rm -rf "$report"' EXIT
all=0 number=0
for group in "$@"; do
    for _target in ${group//+/ }; do all=$((all + 1)); done
done

# A group of processes of its own, so that all of it can be ended.
stop() {
    if [ -n "$beside" ]; then
        kill -- "-$beside" 2>/dev/null || true
        wait "$beside" 2>/dev/null || true
    fi
}

heading() {
    number=$((number + 1))
    printf '\n===== %d/%d  make %s%s =====\n' "$number" "$all" "$1" "${2:-}"
}

# A pipe of our own: Ansible refuses to run where standard output does not block.
run() { "${MAKE:-make}" --no-print-directory "$1" 2>&1 </dev/null | cat; }

# failed TARGET SECONDS: what went wrong is said again, since much comes after it.
failed() {
    printf '\n===== what failed in %s =====\n' "$1"
    grep -nE -A 3 '^(fatal|failed): |UNREACHABLE!|^\[ERROR\]|^(FAILED|ERROR) |^E  ' "$report/$1" |
        cut -c -600 | tail -n 40 || true
    die "make test: FAILED in '$1' after $2 s. To repeat only this part: make $1"
}

# note TARGET: keeps what pytest said in $report/TARGET.
note() {
    grep -E '^=+ .*(passed|failed).* in [0-9.]+s.* =+$' "$report/$1" >>"$report/pytest" || true
}

alone() {
    local began=$SECONDS
    heading "$1"
    run "$1" | tee "$report/$1" || failed "$1" $((SECONDS - began))
    say "$1: passed in $((SECONDS - began)) s"
    note "$1"
}

for group in "$@"; do
    first=${group%%+*}
    if [ "$first" = "$group" ]; then
        alone "$group"
        continue
    fi
    began=$SECONDS
    say "in the background: make $first"
    set -m
    run "$first" >"$report/$first" &
    beside=$!
    set +m
    rest=${group#*+}
    for target in ${rest//+/ }; do
        alone "$target"
    done
    heading "$first" ", begun $((SECONDS - began)) s ago"
    tail -n +1 -f --pid="$beside" "$report/$first"
    status=0
    wait "$beside" || status=$?
    beside=
    [ "$status" = 0 ] || failed "$first" $((SECONDS - began))
    say "$first: passed in $((SECONDS - began)) s"
    note "$first"
done

printf '\n===== all %d parts passed in %d min: %s =====\n' "$all" $((SECONDS / 60)) "$*"
[ ! -s "$report/pytest" ] || cat "$report/pytest"
