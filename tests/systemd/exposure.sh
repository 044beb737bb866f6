#!/usr/bin/env bash
# exposure.sh UNIT MOST: the exposure of a unit file, as systemd-analyze rates it, must be below MOST
# (0.0 is best, 10.0 worst). Exits 77 ("skipped") where systemd-analyze is missing or cannot do that.
set -euo pipefail
unit=$1 most=$2

if ! systemd-analyze security --help 2>/dev/null | grep -q -- --offline; then
    echo "no systemd-analyze that can look at a unit offline"
    exit 77
fi
rated=$(systemd-analyze security --offline=true --no-pager "$unit")
exposure=$(sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p' <<<"$rated")
if [ -z "$exposure" ]; then
    printf '%s\nsystemd-analyze gave no exposure\n' "$rated"
    exit 1
fi
echo "exposure $exposure, allowed: below $most"
if ! awk -v have="$exposure" -v most="$most" 'BEGIN { exit !(have < most) }'; then
    printf '%s\n' "$rated"
    exit 1
fi
