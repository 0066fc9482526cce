#!/usr/bin/env bash
# What the virtual machines need beside the other tools: qemu and its disk images.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
"$ROOT/tests/tools/setup.sh" system

# The software emulation of older ones fails at random while systemd mounts things.
ENOUGH=9

major() {
    command -v qemu-system-x86_64 >/dev/null || return 0
    qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version \([0-9]*\)\..*/\1/p'
}

# use_backports SUITE: apt looks there too for as long as this script runs. What the machine
# itself has configured stays as it is; the address is that of its own source.
use_backports() {
    local site=
    site=$(apt-get --print-uris update | sed -n "s|^'\(.*\)/dists/$1/InRelease' .*|\1|p" | head -n 1)
    [ -n "$site" ] || die "apt has no source for $1 here; name one, its backports hold qemu"
    apt=$(mktemp -d)
    trap 'rm -rf "$apt"' EXIT
    cp -a /etc/apt/sources.list.d "$apt/sources"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s-backports main\n' \
        "$site" "$1" >"$apt/sources/quiesce-backports.list"
    printf 'Dir::Etc::sourceparts "%s";\nAPT::Default-Release "%s-backports";\n' \
        "$apt/sources" "$1" >"$apt/conf"
    export APT_CONFIG=$apt/conf
}

lock setup
found=$(major)
if [ "${found:-0}" -lt "$ENOUGH" ] || ! command -v qemu-img >/dev/null; then
    # shellcheck source=/dev/null
    [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" != bookworm ] || use_backports bookworm
    apt_install qemu-system-x86 qemu-utils
fi
