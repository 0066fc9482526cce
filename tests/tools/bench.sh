#!/usr/bin/env bash
# Measures, and writes docs/performance.md. What has been measured of this code is kept, so that the same
# command goes on where an earlier one was stopped; `bench.sh --afresh` measures all of it again.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

enter_lab "the benchmarks"
lock bench
command -v qemu-ga >/dev/null || apt_install qemu-guest-agent
install_also bench
PYTHONPATH=$ROOT:$ROOT/collections python -m tests.benchmark "$CACHE/benchmark" "$@" 9>&-
say "docs/performance.md says what was measured"
