#!/usr/bin/env bash
# dev_shm.sh before|after FILE: fails if the tests left shared memory objects of ours behind.
# `before` notes in FILE what is there; `after` complains about what came since.
set -euo pipefail

list() { find /dev/shm -maxdepth 1 -name 'mempool*' | sort; }

case "$1" in
before) list >"$2" ;;
after)
    left=$(list | comm -13 "$2" -)
    if [ -n "$left" ]; then
        printf 'left behind:\n%s\n' "$left"
        exit 1
    fi
    ;;
*)
    echo "usage: $0 before|after FILE" >&2
    exit 2
    ;;
esac
