#!/usr/bin/env bash
# Runs a command from the root of the repository, in the virtual environment,
# with this checkout as the collection quiesce.storage.
#   run.sh [--system] COMMAND ARGUMENT…      --system: with the distribution's tools as well
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

what=venv
if [ "${1:-}" = --system ]; then
    what=system
    shift
fi
"$ROOT/tests/tools/setup.sh" "$what"
enter_venv
cd "$ROOT"
exec "$@"
