#!/usr/bin/env bash
# The molecule scenario `fleet`. Arguments replace `test`: fleet.sh converge, fleet.sh login --host host2
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || die "the fleet is made of namespaces and loop devices: run this as root"
QUIESCE_SCENARIO=fleet exec "$ROOT/tests/tools/molecule.sh" "$@"
