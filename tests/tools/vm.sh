#!/usr/bin/env bash
# The molecule scenario `vm`. Arguments replace `test`: vm.sh converge, vm.sh login --host debian12
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || die "images of the virtual machines are built by debootstrap: run this as root"
"$ROOT/tests/tools/vm_setup.sh"
command=${1:-test}
[ $# = 0 ] || shift
exec "$ROOT/tests/tools/molecule.sh" "$command" --scenario-name vm "$@"
