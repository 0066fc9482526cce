#!/usr/bin/env bash
# Python for a worker of pytest-xdist, with processes, mounts and leases that the other workers do not
# see: the kernel tests name leases, look for guards and count mounts.
set -euo pipefail
[ -d /run/quiesce ] || mkdir -m 0700 /run/quiesce 2>/dev/null || [ -d /run/quiesce ]
# The shell in there stays: as process 1 it reaps what tests leave behind.
# shellcheck disable=SC2016 # its own arguments
exec unshare --mount --pid --fork --kill-child --mount-proc bash -c '
    set -e
    mount -t tmpfs -o mode=0700,size=64m tmpfs /run/quiesce
    python "$@"
    exit' python "$@"
