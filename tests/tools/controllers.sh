#!/usr/bin/env bash
# The playbook under ansible-runner, in slices, and the definition of an execution environment.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

enter_lab "these tests"
install_also controllers
exec pytest tests/controllers "$@"
