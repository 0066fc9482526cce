#!/usr/bin/env bash
# The tests that freeze: real filesystems on loop devices.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

enter_lab "the kernel tests"
exec pytest tests/kernel "$@"
