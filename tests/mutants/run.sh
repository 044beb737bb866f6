#!/usr/bin/env bash
# run.sh MUTANT.patch | --sound: whether the tests find a bug that is planted.
#
# Applies the patch to a copy of include/, builds the test that it names against that, and wants the
# cases that it names to fail: by a check of GoogleTest, not by a build that fails or a test that hangs.
# --sound: all cases that the patches name, with nothing planted; they must pass.
#
# Works in a folder of the current directory, always the same one so that ccache knows what it sees. CXX,
# CXXFLAGS and LIBS come from the environment, and LAUNCHER, which may be empty.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
tests=$(dirname "$here")
work=$PWD/$(basename -- "$1" .patch)
rm -rf -- "$work"
mkdir -- "$work"
cp -r "$tests/../include" "$work/"

header() { sed -n "s/^$2: //p" "$1" | head -n 1; }

compile() { # SOURCE OBJECT
    # shellcheck disable=SC2086  # lists of words
    $LAUNCHER $CXX $CXXFLAGS -I "$work/include" -I "$tests" -c "$1" -o "$2"
}

build() { # SOURCE, below tests/
    local objects=("$work/test.o")
    compile "$tests/$1" "$work/test.o"
    if [[ $1 == crash/* ]]; then
        compile "$tests/crash/scenario.cpp" "$work/scenario.o"
        compile "$tests/crash/stepper.cpp" "$work/stepper.o"
        objects+=("$work/scenario.o" "$work/stepper.o")
    fi
    # shellcheck disable=SC2086
    $CXX $CXXFLAGS -Wl,-z,now "${objects[@]}" $LIBS -o "$work/test"
}

run() { # FILTER SECONDS
    timeout "$2" "$work/test" --gtest_filter="$1" >"$work/output" 2>&1
}

skipped() { grep -q '^\[  SKIPPED \]' "$work/output"; }

if [ "$1" = --sound ]; then
    while read -r source; do
        filter=$(grep -lx "Source: $source" "$here"/*.patch | xargs sed -n 's/^Caught by: //p' | paste -sd:)
        echo "$source $filter"
        build "$source"
        run "$filter" 200 || { cat "$work/output"; exit 1; }
        ! skipped || exit 77
    done < <(sed -n 's/^Source: //p' "$here"/*.patch | sort -u)
    exit 0
fi

mutant=$1
sed -n '1p' "$mutant"
patch --quiet -p1 -F3 -d "$work" <"$mutant" || {
    echo "the patch no longer applies: plant the same bug in the code as it is now"
    exit 1
}
build "$(header "$mutant" Source)"
# A race may need many tries, and two processors.
tries=$(header "$mutant" Tries)
if [ "${tries:-1}" -gt 1 ] && [ "$(nproc)" -lt 2 ]; then
    exit 77
fi
for ((k = 0, status = 0; k < ${tries:-1} && status == 0; ++k)); do
    run "$(header "$mutant" 'Caught by')" 100 || status=$?
done
if skipped; then
    exit 77
fi
# 1 and a failed case: GoogleTest's own verdict. Else it passed (0), hung (124) or crashed.
if [ "$status" -ne 1 ] || ! grep -q '^\[  FAILED  \]' "$work/output"; then
    tail -n 20 "$work/output"
    echo "not found: exit status $status"
    exit 1
fi
grep -m 1 -A 4 ': Failure$' "$work/output"
