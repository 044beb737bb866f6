"""Counts the instructions of one get and put, by single-stepping them in gdb.

    gdb -q -batch -ex 'set args mempool pairs_1 200' -x bench/instructions.py \
        build/release/bench/bench_mempool

From one entry of Client::get() to the next, so the harness's loop is counted too. Prints a line for
each function, in the order in which they are met. Works where the processor's counters are not to be
had, as in most virtual machines; with them, `perf stat -e instructions:u` on two run lengths gives the
same, by the slots that a measuring program prints behind its figure.
"""
from collections import Counter

import gdb

for setting in ("pagination off", "confirm off", "breakpoint pending on"):
    gdb.execute("set " + setting)
entry = gdb.Breakpoint("mempool::Client::get()")
entry.ignore_count = 3000  # past the first ones, which map and claim
gdb.execute("run", to_string=True)
entry.delete()

start = gdb.selected_frame().pc()
functions = Counter()
while True:
    functions[(gdb.selected_frame().name() or "?").split("<")[0]] += 1
    gdb.execute("stepi", to_string=True)
    if gdb.selected_frame().pc() == start or sum(functions.values()) > 2000:
        break
print(f"instructions of a pair: {sum(functions.values())}")
for function, count in functions.items():
    print(f"{count:6} {function}")
