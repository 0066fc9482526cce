#!/usr/bin/env bash
# Snapshots of real databases under load, and backups of snapshots.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

# The distribution keeps PostgreSQL's server out of the PATH.
for folder in /usr/lib/postgresql/*/bin; do
    PATH=$PATH:$folder
done
"$ROOT/tests/tools/setup.sh" applications
enter_lab "the tests with applications"
# Files beside each other: a test of one may look for all that another of the same file has left.
exec pytest tests/applications -n 2 --dist loadfile "$@"
