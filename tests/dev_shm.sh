#!/usr/bin/env bash
# dev_shm.sh before|after FILE TAG: fails if the tests left shared memory objects of theirs behind.
# `before` notes in FILE what is there; `after` complains about what came since. TAG stands in the names
# of a build's pools (MEMPOOL_TEST_TAG): what others make meanwhile is none of our business, nor what
# belongs to a process that still runs, of a second ctest in the same build.
set -euo pipefail

list() { find /dev/shm -maxdepth 1 -name "mempool.*-$1-*" | sort; }

# maker OBJECT TAG: the process whose number stands after the tag.
maker() {
    local rest=${1#*-"$2"-}
    echo "${rest%%[!0-9]*}"
}

if [ $# -ne 3 ]; then
    echo "usage: $0 before|after FILE TAG" >&2
    exit 2
fi
case "$1" in
before) list "$3" >"$2" ;;
after)
    left=$(list "$3" | comm -13 "$2" - | while read -r object; do
        [ -d "/proc/$(maker "$object" "$3")" ] || echo "$object"
    done)
    if [ -n "$left" ]; then
        printf 'left behind:\n%s\n' "$left"
        exit 1
    fi
    ;;
*)
    echo "usage: $0 before|after FILE TAG" >&2
    exit 2
    ;;
esac
