#!/usr/bin/env bash
# install_test.sh BUILD_DIR PREFIX LIBDIR SYSCONFDIR WORK_DIR: stages an installation of BUILD_DIR below
# WORK_DIR, twice over an edited configuration, builds consumer/ against it with find_package and with
# pkg-config, and runs the results.
set -euo pipefail
build=$1 prefix=$2 libdir=$3 sysconfdir=$4 work=$5
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
source=$here/consumer root=$here/../..
stage=$work/stage

rm -rf "$stage" "$work/consumer"
mkdir -p "$work/consumer"
# DESTDIR, so that an absolute path among the destinations stays inside too.
DESTDIR=$stage cmake --install "$build" >"$work/install.log"

echo '== an upgrade keeps an edited configuration'
config=$stage$sysconfdir/mempoold/mempoold.conf
cmp "$config" "$root/systemd/mempoold.conf"
DESTDIR=$stage cmake --install "$build" >"$work/again.log"
[ ! -e "$config.new" ]
echo 'log_level = debug' >>"$config"
cp "$config" "$work/edited.conf"
DESTDIR=$stage cmake --install "$build" >"$work/upgrade.log"
cmp "$config" "$work/edited.conf"
cmp "$config.new" "$root/systemd/mempoold.conf"
grep -q "Kept: $config" "$work/upgrade.log"

# No daemon listens there: attach() has to fail and say so.
export MEMPOOL_SOCKET=$work/none.sock

echo '== find_package'
cmake -G Ninja -S "$source" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$stage$prefix" --log-level=WARNING
cmake --build "$work/consumer"
"$work/consumer/consumer"
"$work/consumer/consumer_static"

echo '== pkg-config'
export PKG_CONFIG_PATH=$stage$libdir/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage
read -ra flags < <(pkg-config --cflags --libs mempool)
"${CXX:-c++}" -std=c++20 "$source/main.cpp" -o "$work/consumer/by_pkg_config" "${flags[@]}"
LD_LIBRARY_PATH=$stage$libdir "$work/consumer/by_pkg_config"

echo '== installed programs'
for program in "$stage$prefix"/{sbin/mempoold,bin/mempoolctl}; do
    LD_LIBRARY_PATH=$stage$libdir "$program" --version
done
