#!/usr/bin/env bash
# Runs as root in the system that systemd_test.sh boots, with the project installed. Shows that pools,
# clients and what they hold survive the daemon's end in every way that systemd knows.
set -euo pipefail

export PATH=/usr/local/sbin:/usr/local/bin:$PATH
work=$(mktemp -d)
chmod 755 "$work"

failed() {
    echo "FAILED: $*"
    systemctl status --no-pager --lines=0 mempoold.socket mempoold.service || true
    journalctl --no-pager --output=cat -u mempoold.service -u mempoold.socket || true
    ls -l /dev/shm /run/mempoold
    tail -v -n +1 "$work"/* || true
    exit 1
}
trap 'failed "line $LINENO: $BASH_COMMAND"' ERR

step() { echo "-- $*"; }

# until_true COMMAND...: waits for it to succeed, for ten seconds.
until_true() {
    for _ in {1..200}; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.05
    done
    failed "waited in vain for: $*"
}

# field KEY [POOL]: a value of the pool's status.
field() { mempoolctl status "${2:-frames}" --json | jq -er ".$1"; }
is() { [ "$(field "$1")" = "$2" ]; }
at_least() { [ "$(field "$1")" -ge "$2" ]; }
main_pid() {
    local pid
    pid=$(systemctl show --value --property MainPID mempoold.service)
    # 0 when there is none, and then a kill would hit our own process group.
    [ "$pid" -gt 1 ] && echo "$pid"
}
restarted() {
    local pid
    pid=$(main_pid) && [ "$pid" != "$1" ] && systemctl --quiet is-active mempoold.service
}

# start_holder [POOL [work]]: a client of frames or POOL as nobody that holds ten slots, and gets and returns others
# if it is to work; its pid in $holder, output in $output.
start_holder() {
    output=$(mktemp -p "$work")
    setpriv --reuid=nobody --regid=nogroup --clear-groups /opt/mempool-test/systemd_holder "${@:-frames}" \
        >"$output" 2>&1 &
    holder=$!
    until_true grep -qx ready "$output"
}

step 'install: what the README says serves the pools that are configured'
config=/etc/mempoold
cat >"$config/pools.d/frames.conf" <<'CONF'
slot_size = 4KiB
slots = 64
allow_users = root,nobody
CONF
cat >"$config/pools.d/sealed.conf" <<'CONF'
slot_size = 4KiB
slots = 64
max_slots = 256
allow_users = root,nobody
backing = memfd
CONF
bash -e /opt/mempool-test/after_install.sh
until_true field uuid
systemctl --quiet is-enabled mempoold.socket
# verify only prints what it finds; --man=no: man may not be installed.
findings=$(systemd-analyze verify --man=no mempoold.service mempoold.socket 2>&1 | grep mempoold || true)
[ -z "$findings" ] || failed "systemd-analyze verify: $findings"
# In tenths: less than 1.0.
systemd-analyze security --no-pager --threshold=10 mempoold.service | tail -n 1

step 'the first client starts the daemon'
systemctl stop mempoold.service
systemctl start mempoold.socket
start_holder
uuid=$(field uuid)
is held 10
[ "$(stat -c '%U %a' /dev/shm/mempool.frames)" = 'mempool 600' ]

step 'SIGKILL: the same pool, and the client still holds its slots'
before=$(main_pid)
kill -KILL "$before"
until_true restarted "$before"
until_true is uuid "$uuid"
is held 10
kill -USR1 "$holder"
until_true grep -qx ok "$output"
until_true is held 0

step 'reload: a new pool appears, nothing else changes'
before=$(main_pid)
printf 'slot_size = 256\nslots = 16\n' >"$config/pools.d/more.conf"
systemctl reload mempoold.service
until_true field slots more
[ "$(main_pid)" = "$before" ]
is uuid "$uuid"
kill -USR1 "$holder"
wait "$holder"

step 'reload with an error fails, and the status says why; the daemon goes on'
before=$(main_pid)
echo nonsense >"$config/pools.d/bad.conf"
if systemctl reload mempoold.service 2>"$work/reload"; then failed 'reload took a bad file'; fi
status_says() { systemctl show --value --property StatusText mempoold.service | grep -q -- "$1"; }
until_true status_says "reload failed: $config/pools.d/bad.conf:1: 'nonsense' is not key = value"
[ "$(main_pid)" = "$before" ]
is uuid "$uuid"

step 'start with a bad file and a pool that cannot be made: the others are served, the status says which are not'
printf 'slot_size = 1G\nslots = 60000\n' >"$config/pools.d/huge.conf"
systemctl restart mempoold.service
is uuid "$uuid"
status_says "LEFT OUT: $config/pools.d/bad.conf:1:"
status_says "NOT SERVED: 'huge': pool 'huge' needs"
rm "$config"/pools.d/{bad,huge}.conf
systemctl reload mempoold.service
until_true status_says '^serving '

step 'a client killed is reclaimed'
start_holder
is held 10
reclaimed=$(field reclaimed)
kill -KILL "$holder"
until_true is held 0
until_true at_least reclaimed "$((reclaimed + 10))"

step 'stop keeps the pool and its client, nobody starts it by asking, start takes it over'
start_holder
systemctl stop mempoold.service
[ -e /dev/shm/mempool.frames ]
until_true [ ! -e /run/mempoold/mempoold.sock ]
mempoolctl list >"$work/list" 2>&1 || true
inactive() { ! systemctl --quiet is-active "$1"; }
until_true inactive mempoold.socket
until_true inactive mempoold.service
systemctl start mempoold.service
systemctl --quiet is-active mempoold.socket
is uuid "$uuid"
is held 10
kill -USR1 "$holder"
until_true grep -qx ok "$output"
until_true is held 0
kill -USR1 "$holder"
wait "$holder"

step 'memfd: SIGKILL and restart keep the pool, its segments and who holds what'
mempoolctl grow sealed 32
start_holder sealed
sealed=$(field uuid sealed)
[ ! -e /dev/shm/mempool.sealed ]
[ "$(mempoolctl segments sealed --json | jq -r '.segments[1].object')" = memfd:mempool.sealed.1 ]
before=$(main_pid)
kill -KILL "$before"
until_true restarted "$before"
[ "$(field uuid sealed)" = "$sealed" ]
[ "$(field held sealed)" = 10 ]
[ "$(field segments sealed)" = 2 ]
systemctl restart mempoold.service
[ "$(field uuid sealed)" = "$sealed" ]
[ "$(field held sealed)" = 10 ]
mempoolctl grow sealed 32
systemctl restart mempoold.service
[ "$(field slots sealed)" = 128 ]
kill -USR1 "$holder"
until_true grep -qx ok "$output"
[ "$(field held sealed)" = 0 ]
mempoolctl audit sealed
kill -USR1 "$holder"
wait "$holder"
start_holder sealed
[ "$(field held sealed)" = 10 ]
kill -KILL "$holder"
held_of_sealed() { [ "$(field held sealed)" = "$1" ]; }
until_true held_of_sealed 0

step 'memfd: stop and start make it anew, and who is attached goes on'
start_holder sealed
systemctl stop mempoold.socket mempoold.service
systemctl start mempoold.service
[ "$(field uuid sealed)" != "$sealed" ]
[ "$(field held sealed)" = 0 ]
kill -USR1 "$holder"
until_true grep -qx ok "$output"
kill -USR1 "$holder"
wait "$holder"

# prove_work: the working holder still has what it held, and has done more rounds since the last proof.
prove_work() {
    local before
    before=$(wc -l <"$output")
    kill -USR1 "$holder"
    until_true proofs_exceed "$before"
}
proofs_exceed() { [ "$(wc -l <"$output")" -gt "$1" ] && tail -n 1 "$output" | grep -q '^ok'; }

step 'restart, and stop and start, under clients that hold, get and put all along'
start_holder frames work
worker=$holder worker_output=$output
for how in restart stop_start kill restart_at_once; do
    holder=$worker output=$worker_output
    prove_work
    rounds=$(tail -n 1 "$output")
    case $how in
    restart) systemctl restart mempoold.service ;;
    # The client may want the daemon at any time, and must not start it.
    stop_start)
        systemctl stop mempoold.service
        prove_work
        systemctl start mempoold.service
        ;;
    kill)
        before=$(main_pid)
        kill -KILL "$before"
        until_true restarted "$before"
        ;;
    # Who attaches meanwhile waits in the socket's backlog.
    restart_at_once)
        systemctl --no-block restart mempoold.service
        start_holder
        kill -USR1 "$holder"
        until_true grep -qx ok "$output"
        kill -USR1 "$holder"
        wait "$holder"
        holder=$worker output=$worker_output
        ;;
    esac
    prove_work
    [ "$(tail -n 1 "$output")" != "$rounds" ]
    is uuid "$uuid"
    # A goodbye is seen to in the daemon's own time, and the worker may stand between two steps of a put.
    until_true is clients 1
    until_true mempoolctl audit frames
done
reclaimed=$(field reclaimed)
kill -KILL "$worker"
until_true is clients 0
until_true is held 0
until_true at_least reclaimed "$((reclaimed + 10))"
[ "$(field free)" = "$(field slots)" ]

step 'watchdog: pinged in time, and a stopped daemon is replaced'
mkdir -p /run/systemd/system/mempoold.service.d
printf '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n' >/run/systemd/system/mempoold.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart mempoold.service
before=$(main_pid)
sleep 5
[ "$(main_pid)" = "$before" ]
kill -STOP "$before"
until_true restarted "$before"
until_true is uuid "$uuid"

step 'an error in the main file: it ends, nobody starts it by asking, and start serves again once it is mended'
echo nonsense >>"$config/mempoold.conf"
if systemctl restart mempoold.service 2>"$work/restart"; then failed 'it started with a bad configuration'; fi
until_true [ ! -e /run/mempoold/mempoold.sock ]
mempoolctl list >"$work/list" 2>&1 || true
systemctl --quiet is-failed mempoold.service
sed -i '$d' "$config/mempoold.conf"
systemctl start mempoold.service
until_true is uuid "$uuid"

step 'a daemon that cannot start stops trying, and takes nothing down for good'
printf '[Service]\nExecStart=\nExecStart=/bin/sh -c "kill -SEGV $$$$"\n' \
    >/run/systemd/system/mempoold.service.d/crash.conf
systemctl daemon-reload
systemctl --no-block restart mempoold.service
gave_up() { [ "$(systemctl show --value --property Result mempoold.socket)" = service-start-limit-hit ]; }
until_true gave_up
mempoolctl list >"$work/list" 2>&1 || true
systemctl --quiet is-failed mempoold.service
[ "$(systemctl show --value --property NRestarts mempoold.service)" -ge 5 ]
rm /run/systemd/system/mempoold.service.d/crash.conf
systemctl daemon-reload
systemctl reset-failed mempoold.service
systemctl start mempoold.service
systemctl --quiet is-active mempoold.socket
is uuid "$uuid"

echo 'all held'
