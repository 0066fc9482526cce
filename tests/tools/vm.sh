#!/usr/bin/env bash
# A molecule scenario on virtual machines: `vm`, or what QUIESCE_SCENARIO says. Arguments replace `test`:
# vm.sh converge, vm.sh login --host debian12
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || die "images of the virtual machines are built by debootstrap: run this as root"
"$ROOT/tests/tools/vm_setup.sh"
QUIESCE_SCENARIO=${QUIESCE_SCENARIO:-vm} exec "$ROOT/tests/tools/molecule.sh" "$@"
