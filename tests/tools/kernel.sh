#!/usr/bin/env bash
# The tests that freeze: real filesystems on loop devices.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || die "the kernel tests mount and freeze filesystems: run them as root"
"$ROOT/tests/tools/setup.sh" system
[ -e /dev/loop-control ] || modprobe loop 2>/dev/null || true
[ -e /dev/loop-control ] || die "the kernel tests need loop devices, and there is no /dev/loop-control"
enter_venv
cd "$ROOT"
exec pytest tests/kernel "$@"
