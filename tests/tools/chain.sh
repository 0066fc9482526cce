#!/usr/bin/env bash
# Runs targets of the Makefile one after the other, each under a heading, and says at the end once more
# what pytest had to say. Stops at the first that fails; one that races against time is repeated first, and what
# has failed of it then passed is named at the very end.
#   chain.sh TARGET…
# vm+unit+lint is vm beside the others, which run one after the other: what it says comes after them.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

report=$(mktemp -d)
beside=
trap 'stop; rm -rf "$report"' EXIT
all=0 number=0 again=()
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
run() { "${MAKE:-make}" --no-print-directory "$@" 2>&1 </dev/null | cat; }

# what_failed FILE: much may come after it.
what_failed() {
    grep -nE -A 3 '^(fatal|failed): |UNREACHABLE!|^\[ERROR\]|^(FAILED|ERROR) |^E  ' "$1" |
        cut -c -600 | tail -n 40 || true
}

# names_of FILE: of the tests that failed, or what else says that something did.
names_of() {
    grep -E '^(FAILED|ERROR) ' "$1" | sed 's/ - .*//' | sort -u | grep . ||
        grep -E '^(fatal|failed): |UNREACHABLE!|^\[ERROR\]' "$1" | cut -c -200 | sort -u | grep . ||
        echo 'no test by name; what it had to say stands above'
}

passed() {
    say "$1: passed in $2 s"
    note "$1"
}

# failed TARGET SECONDS: a part that races against time is repeated at the end, when nothing else runs. In all
# others it is the end.
failed() {
    printf '\n===== what failed in %s, after %d s =====\n' "$1" "$2"
    { say "$1" && what_failed "$report/$1"; } | tee -a "$report/at-first"
    names_of "$report/$1" | sed "s/^/$1: /" >>"$report/names"
    case $1 in
        faults | fleet | kernel | molecule | providers | torture | vm) ;;
        *) die "make test: FAILED in '$1'. To repeat only this part: make $1" ;;
    esac
    again+=("$1")
    note "$1"
}

# repeat TARGET: what failed of it, where pytest knows that.
repeat() {
    local only=()
    case $1 in
        faults | kernel | providers | torture) only=(ARGS=--last-failed) ;;
    esac
    printf '\n===== once more: make %s %s =====\n' "$1" "${only[*]}"
    run "$1" "${only[@]}" | tee "$report/$1" ||
        die "make test: FAILED twice in '$1'. To repeat only this part: make $1"
    note "$1"
}

# note TARGET: keeps what pytest said in $report/TARGET.
note() {
    grep -E '^=+ .*(passed|failed).* in [0-9.]+s.* =+$' "$report/$1" >>"$report/pytest" || true
}

alone() {
    local began=$SECONDS
    heading "$1"
    if run "$1" | tee "$report/$1"; then
        passed "$1" $((SECONDS - began))
    else
        failed "$1" $((SECONDS - began))
    fi
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
    if [ "$status" = 0 ]; then
        passed "$first" $((SECONDS - began))
    else
        failed "$first" $((SECONDS - began))
    fi
done
for target in "${again[@]}"; do repeat "$target"; done

printf '\n===== all %d parts passed in %d min: %s =====\n' "$all" $((SECONDS / 60)) "$*"
[ ! -s "$report/pytest" ] || cat "$report/pytest"
if [ -s "$report/names" ]; then
    printf '\n===== not at once: what was said when it failed =====\n'
    cat "$report/at-first"
    printf '\n!!!!! NOT AT ONCE: %d of %d parts failed at first (%s), and passed when nothing else ran.\n' \
        ${#again[@]} "$all" "${again[*]}"
    printf '!!!!! Each of these %d is a defect, of the test or of ours, until it is explained:\n' \
        "$(wc -l <"$report/names")"
    cat "$report/names"
fi
