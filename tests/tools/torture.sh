#!/usr/bin/env bash
# The scenarios that file system developers use, each for QUIESCE_TORTURE_SECONDS in all.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

enter_lab "the torture tests"
export QUIESCE_TORTURE_SECONDS=${QUIESCE_TORTURE_SECONDS:-30}
say "each scenario: $QUIESCE_TORTURE_SECONDS s, shared by the types of filesystem"
# Uncaptured: each says what it does while it does it.
exec pytest --capture=no tests/torture "$@"
