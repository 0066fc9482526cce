#!/usr/bin/env bash
# The scenarios that file system developers use, each for QUIESCE_TORTURE_SECONDS in all.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || die "these tests mount and freeze filesystems: run them as root"
"$ROOT/tests/tools/setup.sh" system
[ -e /dev/loop-control ] || modprobe loop 2>/dev/null || true
[ -e /dev/loop-control ] || die "these tests need loop devices, and there is no /dev/loop-control"
enter_venv
cd "$ROOT"
export QUIESCE_TORTURE_SECONDS=${QUIESCE_TORTURE_SECONDS:-30}
say "each scenario: $QUIESCE_TORTURE_SECONDS s, shared by the types of filesystem"
# Uncaptured: each says what it does while it does it.
exec pytest --capture=no tests/torture "$@"
