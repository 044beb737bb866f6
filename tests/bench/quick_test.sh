#!/usr/bin/env bash
# quick_test.sh BENCH_RUN: a quick run ends well, its tables and its JSON file have mempool in every case,
# and the table of single calls is there.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf -- "$dir"' EXIT

"$1" --quick --json "$dir/json" | tee "$dir/table"

for peer in mempool 'no pool' 'boost::lockfree::stack'; do
    row=$(grep -F -m 1 "| $peer |" "$dir/table") # of the first table
    [ "$(tr -cd '|' <<<"$row" | wc -c)" -eq 11 ] || {
        echo "not 9 cases: $row" >&2
        exit 1
    }
done
! grep -F '| mempool |' "$dir/table" | grep -F '| – |' || {
    echo "a case of mempool has no figure" >&2
    exit 1
}
jq -e '[.benchmarks[] | select(.run_type == "iteration" and (.name | contains("/mempool/")))
        | .real_time > 0] | length >= 25 and all' "$dir/json"
[ "$(grep -Ec '^[|] (get|put) (alone|beside|while)' "$dir/table")" -eq 6 ]
jq -e '.context.cpu and .context.kernel and .context.compiler and .context.date' "$dir/json"
