/* Shared memory as x86 has it, included by the models. Each lane from 1 to BUFFERS has a store buffer,
 * first in first out. Its plain stores reach memory later: when drain() likes, before its own fence
 * or compare-and-swap, or by the membarrier of somebody else. Its loads see its own buffer first.
 * The stores of the other lanes are in memory at once.
 *
 * Whoever includes this defines CLIENTS, SIZE (bytes of memory), BUFFERS, DEPTH, and reached(l, a, x),
 * which is told in the step of each store that reached memory. `me` is the lane of the process that acts.
 * Every inline but those marked "in a step" is one step.
 */
byte mem[SIZE];
byte buffer_address[BUFFERS * DEPTH], buffer_value[BUFFERS * DEPTH];
byte fill[CLIENTS + 1];


hidden byte k; /* scratch, within one step */

#define AT(l, n) (((l) - 1) * DEPTH + (n))

/* In a step: the oldest store of lane l reaches memory. */
inline drain_one(whose) {
    mem[buffer_address[AT(whose, 0)]] = buffer_value[AT(whose, 0)];
    reached(whose, buffer_address[AT(whose, 0)], buffer_value[AT(whose, 0)]);
    fill[whose]--;
    k = 0;
    do
    :: k < fill[whose] ->
       buffer_address[AT(whose, k)] = buffer_address[AT(whose, k + 1)];
       buffer_value[AT(whose, k)] = buffer_value[AT(whose, k + 1)];
       k++
    :: else -> break
    od;
    buffer_address[AT(whose, fill[whose])] = 0;
    buffer_value[AT(whose, fill[whose])] = 0
}

/* In a step: all stores of lane l reach memory. */
inline drain_all(which) {
    do
    :: fill[which] > 0 -> drain_one(which)
    :: else -> break
    od;
    k = 0
}

/* In a step: what a load of `a` by `me` returns. */
inline view(where, seen) {
    seen = mem[where];
    k = 0;
    do
    :: k < fill[me] ->
       if
       :: buffer_address[AT(me, k)] == (where) -> seen = buffer_value[AT(me, k)]
       :: else
       fi;
       k++
    :: else -> break
    od;
    k = 0
}

/* In a step: a plain store by `me`. A full buffer makes room first, as a CPU does. */
inline put_store(place, what) {
    if
    :: me != 0 && me <= BUFFERS ->
       if
       :: fill[me] == DEPTH -> drain_one(me)
       :: else
       fi;
       buffer_address[AT(me, fill[me])] = place;
       buffer_value[AT(me, fill[me])] = what;
       fill[me]++
    :: else ->
       mem[place] = what;
       reached(me, place, what)
    fi
}

inline load(from, result) { d_step { view(from, result) } }
inline store(target, value) { d_step { put_store(target, value) } }
inline fence() { d_step { drain_all(me) } }

/* In a step. */
inline swap_if(spot, expected, wanted, swapped) {
    drain_all(me);
    swapped = (mem[spot] == (expected));
    if
    :: swapped -> mem[spot] = wanted
    :: else
    fi
}

inline cas(cell, before, after, done) { d_step { swap_if(cell, before, after, done) } }

/* One step for each CPU that has a buffer: they pass their barriers one after the other. */
inline membarrier(cpu) {
    cpu = 1;
    do
    :: d_step { cpu <= BUFFERS -> drain_all(cpu); cpu++ }
    :: d_step { cpu > BUFFERS -> cpu = 0 } -> break
    od;
    skip
}

proctype drain(byte l) {
end:
    do
    :: d_step { fill[l] > 0 -> drain_one(l) }
    od
}
