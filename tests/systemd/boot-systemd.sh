#!/usr/bin/env bash
# boot-systemd.sh [--layer DIR] COMMAND [ARGUMENT...]
#
# Boots this machine's systemd as PID 1 over a throwaway view of its root file system, runs COMMAND in
# it as root and exits with COMMAND's status; all in about a second. Inside, the files of DIR lie over
# the root, writes are discarded, /tmp, /run and /dev/shm are new and empty, and there is no network.
# Exits 77 ("skipped") without root or systemd, or where the kernel refuses the mounts.
set -euo pipefail

skip() {
    echo "skipped: $*" >&2
    exit 77
}

# A mount namespace of our own: what we mount goes when we go, even by SIGKILL.
if [ -z "${BOOT_SYSTEMD_NAMESPACE:-}" ]; then
    [ "$(id -u)" -eq 0 ] || skip 'not root'
    [ -x /lib/systemd/systemd ] || skip 'no systemd'
    unshare --mount --propagation private true 2>/dev/null || skip 'no mount namespaces'
    BOOT_SYSTEMD_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

layer=
if [ "${1:-}" = --layer ]; then
    layer=$(realpath "$2")
    shift 2
fi
[ $# -gt 0 ] || {
    echo "usage: $0 [--layer DIR] COMMAND [ARGUMENT...]" >&2
    exit 2
}

scratch=$(mktemp -d)
cgroup=mempool-test.$$
container=
leader=
cleanup() {
    # PID 1 of the namespace goes, and with it all that ran in there.
    [ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null || true
    [ -z "$container" ] || kill -KILL "$container" 2>/dev/null || true
    wait 2>/dev/null || true
    if [ -d "$scratch/cgroup/$cgroup" ]; then
        # Their cgroups can be removed a moment after the last process has left them.
        for _ in {1..50}; do
            find "$scratch/cgroup/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.05
        done
    fi
    umount -l "$scratch" 2>/dev/null || true
    rmdir "$scratch"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP

# Everything below goes onto this tmpfs: what is written over the root, and the few devices.
make_root() {
    mount -t tmpfs tmpfs "$scratch" || return
    mkdir "$scratch"/{written,work,lower,cgroup,root} || return
    root=$scratch/root
    mount --bind / "$scratch/lower" || return
    mount -t overlay overlay "$root" \
        -o "lowerdir=$scratch/lower,upperdir=$scratch/written,workdir=$scratch/work" || return
    # A copy: the kernel refuses a second lower layer that lies inside the first.
    [ -z "$layer" ] || cp -r "$layer/." "$root/" || return
    # The file systems and swap of the machine are none of its business.
    : >"$root/etc/fstab" || return
    mount -t tmpfs -o mode=755 tmpfs "$root/run" || return
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp" || return
    mount -t tmpfs -o mode=755 tmpfs "$root/dev" || return
    mkdir "$root"/dev/{pts,shm,mqueue} || return
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm" || return
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts" || return
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    local node
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node" || return
    done
}
make_root || skip 'mounts refused'

# A cgroup to be systemd's root; only version 2 can be delegated like that.
mount -t cgroup2 cgroup2 "$scratch/cgroup" || skip 'no cgroup2'
mkdir "$scratch/cgroup/$cgroup" || skip 'cgroups are read-only'

# Runs as PID 1 of all new namespaces: enters the root, then becomes systemd. basic.target has sockets
# and services that tests start, but no logins; timers would start jobs of the machine.
become_systemd() {
    set -e
    cd "$1"
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mkdir -p .outside
    pivot_root . .outside
    umount -l /.outside
    exec env -i container=other /lib/systemd/systemd --system --log-target=console --show-status=false \
        systemd.unit=basic.target systemd.mask=timers.target
}
(
    echo 0 >"$scratch/cgroup/$cgroup/cgroup.procs"
    exec setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --cgroup --ipc --uts --net \
        bash -c "$(declare -f become_systemd); become_systemd \"\$1\"" bash "$root"
) </dev/null >"$scratch/log" 2>&1 &
container=$!

inside() { nsenter --target "$leader" --all "$@"; }

# Until all its jobs are done; "degraded" only says that some unit of the machine does not fit in here.
booted=
for _ in {1..300}; do
    leader=$(pgrep -P "$container" -x systemd || true)
    if [ -n "$leader" ]; then
        case $(inside systemctl is-system-running 2>/dev/null || true) in
        running | degraded) booted=yes && break ;;
        esac
    fi
    kill -0 "$container" 2>/dev/null || break
    sleep 0.05
done
if [ -z "$booted" ]; then
    cat "$scratch/log" >&2
    skip 'systemd did not come up'
fi

# In the background, since bash runs its traps while it waits for a job but not during a command.
inside env -i LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" <&0 &
status=0
wait $! || status=$?
exit "$status"
