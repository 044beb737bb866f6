#!/usr/bin/env bash
# systemd_test.sh BUILD_DIR HOLDER: boots a systemd of its own with BUILD_DIR installed in it and runs
# inside.sh there, with HOLDER as the client. Exits 77 ("skipped") where it cannot boot.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
build=$1 holder=$2

# Readable by everybody, since a part of the test runs as nobody.
umask 022
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
# Staged before the boot: the build's own folder need not be visible in there.
DESTDIR=$stage cmake --install "$build" >/dev/null
mkdir -p "$stage/opt/mempool-test"
cp "$here/inside.sh" "$holder" "$stage/opt/mempool-test/"
# What the README says to do after cmake --install, word for word.
sed -n '/^cmake .*cmake --install/,/^```/p' "$here/../../README.md" | sed '1d;$d' \
    >"$stage/opt/mempool-test/after_install.sh"
[ -s "$stage/opt/mempool-test/after_install.sh" ]

"$here/boot-systemd.sh" --layer "$stage" /opt/mempool-test/inside.sh
