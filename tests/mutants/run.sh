#!/usr/bin/env bash
# run.sh MUTANT.patch | --sound: whether the tests find a bug that is planted.
#
# Applies the patch to a copy of include/, builds the test that it names against that, and wants the
# cases that it names to fail: by a check of GoogleTest, not by a build that fails or a test that hangs.
# --sound: all cases that the patches name, with nothing planted; they must pass.
#
# A patch with a line `Siege: OPTIONS` in place of `Source:` and `Caught by:` is planted in a daemon, and
# the siege with these options must fail for it. --sound: one siege with the acts of all of them.
#
# Works in a folder of the current directory, always the same one so that ccache knows what it sees. CXX,
# CXXFLAGS, LIBS and SIEGE come from the environment, and LAUNCHER, which may be empty.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
tests=$(dirname "$here")
header() { sed -n "s/^$2: //p" "$1" | head -n 1; }

# What a siege is laid to: one copy of the sources for all patches, so that only what differs is compiled.
# Files that did not change keep their times.
copy_sources() { # TO
    local to=$1 file
    cd -- "$tests/.."
    find CMakeLists.txt cmake client ctl daemon docs include systemd ./*.md -type f -print0 |
        while IFS= read -r -d '' file; do
            cmp -s -- "$file" "$to/$file" || install -D -- "$file" "$to/$file"
        done
    cd - >/dev/null
}

besiege_mutant() { # MUTANT
    local tree=$PWD/siege status=0 options
    mkdir -p -- "$tree"
    copy_sources "$tree"
    patch --quiet -p1 -F3 -d "$tree" <"$1" || {
        echo "the patch no longer applies: plant the same bug in the code as it is now"
        exit 1
    }
    cmake -G Ninja -S "$tree" -B "$tree/build" -DCMAKE_CXX_COMPILER="$CXX" \
        -DCMAKE_CXX_COMPILER_LAUNCHER="${LAUNCHER// /;}" -DCMAKE_BUILD_TYPE=Debug \
        -DCMAKE_CXX_FLAGS=-O1 -DMEMPOOL_BUILD_TESTS=OFF --log-level=WARNING >"$tree/log"
    cmake --build "$tree/build" --target mempoold >>"$tree/log" || {
        tail -n 20 "$tree/log"
        exit 1
    }
    eval "options=($(header "$1" Siege))" # as on a command line: kinds have spaces in their names
    timeout 200 "$SIEGE" --daemon "$tree/build/daemon/mempoold" "${options[@]}" \
        >"$tree/output" 2>&1 || status=$?
    ! grep -q '^\[  SKIPPED \]' "$tree/output" || exit 77
    if [ "$status" -ne 1 ] || ! grep -q '^\[  FAILED  \]' "$tree/output"; then
        tail -n 20 "$tree/output"
        echo "not found: exit status $status"
        exit 1
    fi
    grep -m 1 -A 4 ': Failure$' "$tree/output"
}

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

if [ "$1" != --sound ] && grep -q '^Siege: ' "$1"; then
    sed -n '1p' "$1"
    besiege_mutant "$1"
    exit 0
fi

work=$PWD/$(basename -- "$1" .patch)
rm -rf -- "$work"
mkdir -- "$work"
cp -r "$tests/../include" "$work/"

if [ "$1" = --sound ]; then
    while read -r source; do
        filter=$(grep -lx "Source: $source" "$here"/*.patch | xargs sed -n 's/^Caught by: //p' | paste -sd:)
        echo "$source $filter"
        build "$source"
        run "$filter" 200 || { cat "$work/output"; exit 1; }
        ! skipped || exit 77
    done < <(sed -n 's/^Source: //p' "$here"/*.patch | sort -u)
    if [ -n "${SIEGE:-}" ]; then
        acts=()
        eval "acts=($(sed -n 's/^Siege: --seconds [0-9]*//p' "$here"/*.patch | paste -s))"
        echo "siege" "${acts[@]}"
        timeout 200 "$SIEGE" --seconds 12 "${acts[@]}" >"$work/output" 2>&1 || {
            cat "$work/output"
            exit 1
        }
        ! skipped || exit 77
    fi
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
