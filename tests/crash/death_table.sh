#!/usr/bin/env bash
# The tables of docs/reliability.md, A death after every instruction: death_table.sh [BUILD FOLDER]
set -euo pipefail
tests=${1:-build/test}/tests/crash
{
    "$tests/crash_test" --gtest_filter='*KillClient*:KillDaemon.In*:*VictimDies.AndTheThiefToo*'
    "$tests/kill_storage_test"
    "$tests/kill_attach_test"
} | awk '
    /^crash: / {
        table = $2 == "daemon" ? "daemon" : "client"
        name = $4
        for (k = 5; k < NF - 5; ++k) name = name " " $k
        counted = name !~ /system calls/
        rows[table] = rows[table] "| " name " | " (counted ? $(NF - 5) : "–") " | " $(NF - 3) " | " $(NF - 1) " |\n"
        if (counted) {
            instructions[table] += $(NF - 5); kills[table] += $(NF - 3); faults[table] += $(NF - 1)
        }
    }
    /^\[  FAILED  \]/ { failed = 1 }
    END {
        for (k = 1; k <= 2; ++k) {
            table = k == 1 ? "client" : "daemon"
            print "| " (k == 1 ? "operation of a client" : "work of the daemon") \
                " | instructions | kills | slots lost or doubled |\n|---|---|---|---|"
            printf "%s", rows[table]
            print "| together | " instructions[table] " | " kills[table] " | " faults[table] " |\n"
        }
        exit failed
    }'
