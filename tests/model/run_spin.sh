#!/usr/bin/env bash
# run_spin.sh MODEL sound|broken [-DNAME=VALUE...]: searches all states of a Promela model. `sound`:
# there must be no error; `broken`: an assertion of the model must fail, or it is worth nothing.
# -O1: for most models GCC takes longer than the search. 77 (skipped) where spin is not installed.
set -euo pipefail

model=$(realpath "$1")
expected=$2
shift 2
if ! command -v spin >/dev/null || ! command -v cc >/dev/null; then
    echo "spin or a C compiler is not installed"
    exit 77
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
spin "$@" -a "$model"
cc -O1 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM="${MEMPOOL_MODEL_MEMORY_MB:-4000}" -o pan pan.c
./pan -m2000000 -w24 | tee result
# A search that was cut short is no proof.
if grep -qE 'max search depth too small|out of memory|memory limit|invalid array index' result; then
    exit 1
fi
case $expected in
sound) grep -q 'errors: 0' result ;;
broken) grep -q 'assertion violated' result ;;
*) exit 2 ;;
esac
