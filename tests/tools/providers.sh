#!/usr/bin/env bash
# Providers whose storage is neither the host's nor the machine's, against what stands for it.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

enter_lab "the tests of providers"
"$ROOT/tests/tools/setup.sh" collections
exec pytest tests/providers "$@"
