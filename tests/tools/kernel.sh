#!/usr/bin/env bash
# The tests that freeze: real filesystems on loop devices. All of them file by file on two workers; with
# arguments for pytest on none, so that a debugger, and output, can be had.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

enter_lab "the kernel tests"
[ $# = 0 ] || exec pytest tests/kernel "$@"
exec pytest tests/kernel --dist loadfile --tx "2*popen//python=$ROOT/tests/tools/apart.sh"
