/* Exhausted: it is said only if there was a moment without a free slot while the search lasted. See
 * docs/concurrency.md, "The models"; the code is exhaustion.hpp.
 *
 * Lane 0 searches; lanes from 1 to MOVERS, with store buffers, do OPS operations each: a put, a get,
 * giving a magazine to one of two rings, a steal. A lane's magazines, and a ring's, are the number
 * of slots in them: steal.pml shows that a magazine is stolen as a whole or not at all. One that is
 * killed or stopped is one that takes no further step, which is among the orders searched.
 *
 * DAEMON: mempoold, which is no lane at work, gives a slot that it took back.
 *
 * A slot is free from where its put reaches memory to where a get does; `free` counts them wherever
 * they are, in a thief's hands too. Asserted at the end of a search that says exhausted: `free` was 0
 * at some moment since its beginning.
 *
 * Broken on purpose: NO_PUTS (and steals), NO_POSITIONS (the sum leaves them out), NO_BUSY (X5 left out), NO_BUSY_BEFORE (as X5 at X1),
 * NO_SECOND_LOOK (X4 left out), LATE_WORK (X0 after the claim), LATE_COUNT (the counter after B3).
 */
#ifndef MOVERS
#define MOVERS 2
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef DEPTH
#define DEPTH 4
#endif

#define CLIENTS MOVERS
#define BUFFERS MOVERS

#define BUSY(l) (3 * (l) - 3)
#define COUNT(l) (3 * (l) - 2)
#define MOVED(l) (3 * (l) - 1)
#define SIZE (3 * MOVERS)

byte ring[2], position[2]; /* slots; head and tail together */
byte hands;                /* slots stolen and not yet in the thief's record */
bool none_free;

#define free_slots (mem[COUNT(1)] + mem[COUNT(2)] + ring[0] + ring[1] + hands)
#define reached(l, a, x) none_free = none_free || (free_slots == 0)

#include "tso.pml"

#ifdef LATE_WORK
#define begin_work() skip
#define begin_work_late() store(BUSY(me), 1)
#else
#define begin_work() store(BUSY(me), 1) /* X0 */
#define begin_work_late() skip
#endif

inline count_move() {
    d_step { view(MOVED(me), n); put_store(MOVED(me), n + 1); n = 0 }
}

inline put() {
    store(BUSY(me), 1); /* B1 */
    d_step { view(COUNT(me), n); put_store(COUNT(me), n + 1); n = 0; mine-- } /* F2 */
#ifdef LATE_COUNT
    store(BUSY(me), 0);
    count_move()
#else
    count_move();
    store(BUSY(me), 0) /* B3 */
#endif
}

/* load(): n slots are where the lane's record says. */
inline from_hands() {
    d_step { drain_all(me); mem[COUNT(me)] = mem[COUNT(me)] + n; hands = hands - n }
}

/* From its own magazine, else from that of a ring. */
inline get() {
    store(BUSY(me), 1); /* B1 */
    load(COUNT(me), n);
    if
    :: n == 0 ->
       if
       :: r = 0
       :: r = 1
       fi;
       d_step { /* T1 */
           drain_all(me);
           n = ring[r];
           ring[r] = 0;
           hands = hands + n
       }
       if
       :: n != 0 ->
          position[r]++; /* Q1 */
          from_hands()
       :: else
       fi;
       r = 0
    :: else
    fi;
    d_step { /* C1 */
        if
        :: n != 0 -> put_store(COUNT(me), n - 1); mine++; n = 0
        :: else
        fi
    }
    store(BUSY(me), 0) /* B3 */
}

inline give() {
    store(BUSY(me), 1); /* B1 */
    if
    :: r = 0
    :: r = 1
    fi;
    d_step { /* G1, P1 */
        drain_all(me);
        n = mem[COUNT(me)];
        ring[r] = ring[r] + n;
        mem[COUNT(me)] = 0
    }
    if
    :: n != 0 -> position[r]++
    :: else
    fi;
    r = 0;
    n = 0;
    store(BUSY(me), 0) /* B3 */
}

/* From the other mover, if it is idle behind the barrier. */
inline steal() {
    begin_work();
    d_step { /* S2 to S5 */
        drain_all(me);
        drain_all(3 - me);
        if
        :: mem[BUSY(3 - me)] == 0 -> n = mem[COUNT(3 - me)]; hands = hands + n; mem[COUNT(3 - me)] = 0
        :: else
        fi
    }
    begin_work_late();
    if
    :: n != 0 ->
       r = n;
       n = 0;
       count_move();
       n = r;
       r = 0;
       from_hands();
       n = 0
    :: else
    fi;
    store(BUSY(me), 0) /* B3 */
}

proctype mover(byte me) {
    byte n, r, ops, mine;
    mine = (me == MOVERS);
    do
    :: ops < OPS ->
       ops++;
       if
       :: mine != 0 -> put()
       :: get()
       :: give()
       :: steal()
       fi
    :: ops == OPS -> break
    od
}

#ifdef NO_PUTS
#define sum_of(l) 0
#else
#define sum_of(l) mem[MOVED(l)]
#endif
#ifdef NO_POSITIONS
#define sum_of_ring(r) 0
#else
#define sum_of_ring(r) position[r]
#endif

proctype searcher() {
    byte sum, l;
    bool found, others_busy;
    none_free = (free_slots == 0);
    sum = sum_of_ring(0); /* X1 */
    sum = sum + sum_of_ring(1);
    l = 1;
    do
    :: l <= MOVERS ->
       sum = sum + sum_of(l);
#ifndef NO_BUSY_BEFORE
       others_busy = others_busy || (mem[BUSY(l)] == 1);
#endif
       l++
    :: else -> break
    od;
    found = (ring[0] != 0); /* X2 */
    found = found || (ring[1] != 0);
    found = found || (mem[COUNT(1)] != 0); /* X3 */
    found = found || (mem[COUNT(2)] != 0);
#ifndef NO_SECOND_LOOK
    found = found || (ring[0] != 0); /* X4 */
    found = found || (ring[1] != 0);
#endif
    l = 1;
    do
    :: l <= MOVERS ->
#ifndef NO_BUSY
       others_busy = others_busy || (mem[BUSY(l)] == 1); /* X5 */
#endif
       sum = sum - sum_of(l); /* X6 */
       l++
    :: else -> break
    od;
    sum = sum - sum_of_ring(0);
    sum = sum - sum_of_ring(1);
    assert(found || others_busy || sum != 0 || none_free)
}

#ifdef DAEMON
/* Gives what it has taken back, of which no lane is at work. */
proctype daemon() {
    d_step { ring[0]++; none_free = none_free || (free_slots == 0) } /* P1 */
    position[0]++
}
#endif

init {
    atomic {
        mem[COUNT(1)] = 1; /* and mover 2 holds a slot */
        run mover(1);
        run drain(1);
        run mover(2);
        run drain(2);
#ifdef DAEMON
        run daemon();
#endif
        run searcher()
    }
}
