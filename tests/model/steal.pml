/* Stealing: a client that finds the depot empty takes magazines out of other lanes, whose owners
 * work with them by plain stores and without a fence. See docs/concurrency.md, "The models".
 *
 * Lane 1 begins with all slots; the other lanes with nothing, so they steal from it and from each
 * other. Every client does OPS operations of its choice (get, put, share) and may then close its lane
 * (CLOSE). One client may be killed between any two steps (KILL: lanes it may happen to); the daemon
 * takes back what it had, beside the living, and a new client takes its lane (REUSE). Or the daemon
 * is down, and the others go on without it. A stopped client needs no step of its own: all
 * others go on without it, as far as they like.
 *
 * Asserted, by variables no client reads:
 *   two users   who enters its busy section owns its magazines by their words, and nobody's steal
 *               succeeds on a magazine whose lane is inside (until its busy=0 is in memory)
 *   twice       a slot handed out is held by nobody
 *   overwritten a plain store of a magazine's word (G1) finds it OWNED by who stores
 *   lost        in the end each slot is held by a living client, or FREE(m) and once in m's items
 *   blocked     no client waits: an invalid end state otherwise
 * The ring is not here (depot.pml has it): a claim looks at all magazine words.
 *
 * END: the daemon ends the client of lane 1 at some moment while it lives (end_client.hpp), shuts its
 * lane out until it is not busy, and may see it die and take back the rest. With OPEN the client
 * first claims and opens its lane, meanwhile. Asserted then too:
 *   goes on     an ended client that has done what it had to do has no magazine
 *
 * Broken on purpose, to see that it is found: NO_BARRIER (S3 left out), CLEAR_AFTER_BUMP (V1 after
 * V3), NO_BUMP (V3 only looks), READ_AFTER_REVOKE (S1 after S2), GIVE_OUTSIDE_BUSY (G1 after B3),
 * FREE_BEFORE_TAKE (reclaim clears busy before it has the magazines). With END: NO_BARRIER, NO_EPOCH
 * (E1 left out), FREE_LANE (the ended client's lane is freed while it lives), FORGET_NOTHING (V1 clears
 * kShutOut, and who refuses keeps its magazines), CLEAR_ON_OPEN (open() does not look at the epoch).
 */
#ifndef CLIENTS
#define CLIENTS 3
#endif
#ifndef BUFFERS
#define BUFFERS 1
#endif
#ifndef VICTIM_OPS
#define VICTIM_OPS 3
#endif
#ifndef THIEF_OPS
#define THIEF_OPS 1
#endif
#ifndef KILL
#define KILL 0 /* bit l: lane l may die */
#endif
#ifndef REUSE
#define REUSE 0 /* operations of the client that gets the dead one's lane */
#endif
#ifndef CLOSE
#define CLOSE 0 /* bit l: lane l is closed after its operations */
#endif
#ifndef DEPTH
#define DEPTH 6
#endif

#define MAGAZINES 3
#define SLOTS 2
#define CAPACITY 2

/* Memory: lane records, magazines, slot words. Number 0 of each is "none". */
#define BUSY(l) (4 * (l) - 4)
#define REVOKED(l) (4 * (l) - 3)
#define LOADED(l) (4 * (l) - 2)
#define PREVIOUS(l) (4 * (l) - 1)
#define WORD(m) (4 * CLIENTS + ((m) - 1) * (2 + CAPACITY))
#define COUNT(m) (WORD(m) + 1)
#define ITEM(m, n) (WORD(m) + 2 + (n))
#define SLOT(s) (WORD(MAGAZINES + 1) + (s) - 1)
#ifdef END
#define EPOCH (WORD(MAGAZINES + 1) + SLOTS) /* of client 1's record; 1: it was ended */
#define LANE (EPOCH + 1)                     /* lane 1's word; 1: claimed */
#define SIZE (LANE + 1)
#else
#define SIZE (WORD(MAGAZINES + 1) + SLOTS)
#endif

/* Magazine word: version * 8 + OWNED(lane) or FULL or EMPTY. Lane 0 is the daemon's. */
#define OWNED(l) (l)
#define FULL 6
#define EMPTY 7
#define STATE(w) ((w) % 8)
#define NEXT(w, s) (((w) / 8 + 1) * 8 + (s))

/* Slot word: FREE(m), or HELD(c) by a client. The client's number is its lane's; its successor's in
 * that lane is NEWCOMER. */
#define FREE(m) (m)
#define HELD(c) (16 + (c))
#define NEWCOMER 8

/* The private half of a lane: what Lane::loaded_id_ and previous_id_ say. */
byte loaded[CLIENTS + 1], previous[CLIENTS + 1];

/* Ghosts. */
byte inside[CLIENTS + 1]; /* busy sections entered whose busy=0 is not yet in memory */
byte holder[SLOTS + 1];
bool dead[CLIENTS + 1];
#ifdef END
bool refused[CLIENTS + 1]; /* who found itself ended: it does nothing any more */
#endif
byte ended; /* clients that have done what they had to do */

inline reached(by, spot_, value_) {
    if
    :: (spot_) == BUSY(by) && (value_) == 0 -> inside[by]--
    :: else
    fi
}

#include "tso.pml"

#if CLIENTS > 2
#define ALL_DRAINED (fill[1] + fill[2] + fill[3] == 0)
#else
#define ALL_DRAINED (fill[1] + fill[2] == 0)
#endif

/* A magazine's contents are its owner's alone (that is what "two users" asserts), so what it does to
 * them between two steps that others see is one step; where somebody may be killed, CUT takes it apart.
 * Stores into a buffer that follow each other lose nothing by it: they leave one by one. */
#if KILL
#define CUT } d_step {
#else
#define CUT ;
#endif

#define OURS(m) ((m) == 0 || STATE(mem[WORD(m)]) == OWNED(me))

/* In a step: from here on the client uses its magazines. */
inline go_inside() {
    assert(OURS(loaded[me]) && OURS(previous[me])); /* two users */
    inside[me]++
}

/* V3 for one magazine, which is forgotten when it is lost. */
inline bump(mine) {
    d_step {
        if
        :: mine != 0 ->
           view(WORD(mine), w);
           ok = (STATE(w) == OWNED(me))
        :: else
        fi
    }
    d_step {
#ifndef NO_BUMP
        if
        :: ok -> swap_if(WORD(mine), w, NEXT(w, OWNED(me)), ok)
        :: else
        fi;
#endif
        if
        :: !ok -> mine = 0
        :: else
        fi;
        w = 0;
        ok = 0
    }
}

/* In a step: Lane::leave(). */
inline leave() { put_store(BUSY(me), 0) } /* B3 */

#ifdef END
/* In a step: LaneMagazines::refuses(): E1, and forgets its magazines. */
inline refuse_if_ended() {
    skip;
#ifndef NO_EPOCH
    view(EPOCH, w);
    if
    :: me == 1 && w != 0 ->
       loaded[me] = 0;
       previous[me] = 0;
       put_store(LOADED(me), 0);
       put_store(PREVIOUS(me), 0);
       inside[me]++;
       leave();
       refused[me] = true
    :: else
    fi;
    w = 0;
#endif
    skip
}
#endif

/* Lane::enter(): B1, B2, and V1 to V3 if somebody revoked. */
inline enter() {
    store(BUSY(me), 1); /* B1 */
    d_step {            /* B2 */
        view(REVOKED(me), x);
        if
        :: x == 0 -> go_inside()
        :: else
        fi
    }
    if
    :: x != 0 ->
#ifdef CLEAR_AFTER_BUMP
       fence();
       bump(loaded[me]);
       bump(previous[me]);
       store(REVOKED(me), 0);
       fence();
#elif defined(FORGET_NOTHING)
       store(REVOKED(me), 0);
       fence();
       if
       :: me == 1 && mem[EPOCH] != 0 -> /* it refuses, and its next operation begins */
          store(BUSY(me), 1);
          load(REVOKED(me), x);
          if
          :: x != 0 -> d_step { refuse_if_ended() }
          :: else
          fi
       :: else
       fi;
#else
#ifdef END
       d_step {
           drain_all(me);
           mem[REVOKED(me)] = mem[REVOKED(me)] & 2 /* V1, V2 */
       }
       d_step { refuse_if_ended() }
#else
       store(REVOKED(me), 0); /* V1 */
       fence();               /* V2 */
#endif
       bump(loaded[me]);      /* V3 */
       bump(previous[me]);
#endif
       d_step { x = 0; go_inside() }
    :: else
    fi
}

/* Depot::claim() of a magazine with room, or with slots: whichever word says so (T1); got = 0: none. */
inline claim(room) {
    d_step {
        m = 1;
        do
        :: m <= MAGAZINES && got == 0 ->
           w = mem[WORD(m)];
           if
           :: (STATE(w) == FULL && (!room || mem[COUNT(m)] < CAPACITY)) ||
              (STATE(w) == EMPTY && room) ->
              swap_if(WORD(m), w, NEXT(w, OWNED(me)), ok);
              if
              :: ok -> got = m
              :: else
              fi
           :: else
           fi;
           m++
        :: else -> break
        od;
        m = 0;
        w = 0;
        ok = 0
    }
}

/* In a step: Depot::give() (G1) of magazine `old`. */
inline put_back() {
    if
    :: old != 0 ->
       view(WORD(old), w);
       view(COUNT(old), x);
       assert(STATE(mem[WORD(old)]) == OWNED(me)); /* overwritten */
       put_store(WORD(old), NEXT(w, (x != 0 -> FULL : EMPTY)))
    :: else
    fi;
    old = 0;
    w = 0;
    x = 0
}

/* Lane::steal(): one magazine of one lane after the other; got = 0: none to be had. */
inline steal() {
    v = 1;
    do
    :: v <= CLIENTS && v != me ->
       if /* S1: the record */
       :: load(LOADED(v), m)
       :: load(PREVIOUS(v), m)
       fi;
       if
       :: m != 0 ->
          d_step { /* S1: the word */
              view(WORD(m), w);
              ok = (STATE(w) == OWNED(v) && mem[COUNT(m)] > 0)
          }
          if
          :: ok ->
#ifdef END
             d_step { drain_all(me); mem[REVOKED(v)] = mem[REVOKED(v)] | 1 } /* S2 */
#else
             store(REVOKED(v), 1); /* S2 */
#endif
#ifdef READ_AFTER_REVOKE
             d_step { view(WORD(m), w); ok = (STATE(w) == OWNED(v)) }
#endif
#ifndef NO_BARRIER
             membarrier(x); /* S3 */
#endif
             load(BUSY(v), x); /* S4 */
             if
             :: x == 0 && ok ->
                d_step { /* S5 */
                    swap_if(WORD(m), w, NEXT(w, OWNED(me)), ok);
                    if
                    :: ok ->
                       got = m;
                       assert(w < 240);
                       assert(inside[v] == 0 || (loaded[v] != m && previous[v] != m)) /* two users */
                    :: else
                    fi
                }
             :: else
             fi
          :: else
          fi
       :: else
       fi;
       m = 0;
       w = 0;
       x = 0;
       ok = 0;
       if
       :: got != 0 -> break
       :: else -> v++
       fi
    :: v == me -> v++
    :: v > CLIENTS -> break
    od;
    v = 0
}

/* In a step: Lane::load(). */
inline set_magazines(one, other) {
    previous[me] = other;
    loaded[me] = one;
    put_store(LOADED(me), loaded[me]);
    put_store(PREVIOUS(me), previous[me])
}

/* `got` becomes the loaded magazine, the one in use the previous, and that goes to the depot. */
inline exchange() {
    d_step {
        old = previous[me];
        set_magazines(got, loaded[me]);
        got = 0
#ifndef GIVE_OUTSIDE_BUSY
        CUT
        put_back()
#endif
    }
}

/* In a step: how many slots this lane's magazines have, as it sees it itself. */
inline count_both() {
    c = 0;
    x = 0;
    if
    :: loaded[me] != 0 -> view(COUNT(loaded[me]), c)
    :: else
    fi;
    if
    :: previous[me] != 0 -> view(COUNT(previous[me]), x)
    :: else
    fi
}

/* In a step: the magazine beside becomes the loaded one. */
inline swap_both() {
    i = previous[me];
    set_magazines(i, loaded[me]);
    i = 0
}

/* Lane::get(), Lane::refill(). */
inline get() {
    enter();
    d_step {
        count_both();
        if
        :: c == 0 && x != 0 -> swap_both()
        :: else
        fi;
        ok = (c == 0 && x == 0);
        c = 0;
        x = 0
    }
    if
    :: ok ->
       claim(false);
       if
       :: got == 0 -> ok = 0; steal()
       :: else -> ok = 0
       fi;
       if
       :: got != 0 -> exchange()
       :: else
       fi
    :: else
    fi;
    d_step {
        count_both();
        if
        :: c != 0 -> /* C0, C1 */
           view(ITEM(loaded[me], c - 1), i);
           view(SLOT(i), x);
           assert(x == FREE(loaded[me]));
           assert(holder[i] == 0); /* twice */
           holder[i] = id;
           put_store(SLOT(i), HELD(id));
           hold = hold | (1 << i)
        :: else
        fi
        CUT
        if
        :: c != 0 -> put_store(COUNT(loaded[me]), c - 1)
        :: else
        fi
        CUT
        leave();
        i = 0;
        c = 0;
        x = 0
    }
}

/* Lane::put_private(), Lane::make_room(). */
inline put() {
    enter();
    d_step {
        count_both();
        ok = (loaded[me] == 0 || c == CAPACITY);
        if
        :: ok && previous[me] != 0 && x < CAPACITY -> swap_both(); ok = 0
        :: else
        fi;
        c = 0;
        x = 0
    }
    if
    :: ok ->
       claim(true);
       ok = 0;
       if
       :: got != 0 -> exchange()
       :: else
       fi
    :: else
    fi;
    d_step {
        i = (hold & 2 -> 1 : 2);
        count_both();
        if
        :: loaded[me] == 0 -> c = CAPACITY /* no room in so few magazines: it keeps the slot */
        :: else
        fi;
        if
        :: c < CAPACITY -> put_store(ITEM(loaded[me], c), i)
        :: else
        fi
        CUT
        if
        :: c < CAPACITY -> /* F2 */
           holder[i] = 0;
           put_store(SLOT(i), FREE(loaded[me]));
           hold = hold & ~(1 << i)
        :: else
        fi
        CUT
        if
        :: c < CAPACITY -> put_store(COUNT(loaded[me]), c + 1)
        :: else
        fi
        CUT
        leave();
        i = 0;
        c = 0;
        x = 0
    }
}

/* Lane::share(): the loaded magazine for those who wait. */
inline share() {
    enter();
    d_step {
        old = loaded[me];
        set_magazines(0, previous[me])
#ifndef GIVE_OUTSIDE_BUSY
        CUT
        put_back()
#endif
        CUT
        leave()
    }
}

/* Lane::close(), free_lane(): with an empty record, and not busy, the lane is anybody's (L2). */
inline close() {
    enter();
    d_step {
        old = loaded[me];
        set_magazines(0, previous[me])
        CUT
        put_back()
        CUT
        old = previous[me];
        set_magazines(0, 0)
        CUT
        put_back()
        CUT
        leave()
    }
}

#ifdef OPEN
/* try_claim_lane(), Lane::open(). */
inline open() {
    d_step { drain_all(me); mem[LANE] = 1 } /* L1 */
    store(BUSY(me), 1);
    store(REVOKED(me), 0);
    fence();
#ifndef CLEAR_ON_OPEN
    d_step { refuse_if_ended() }
#endif
    d_step { go_inside() }
    claim(true);
    d_step { set_magazines(got, 0); got = 0 }
    claim(true);
    d_step { set_magazines(loaded[me], got); got = 0; leave() }
}
#endif

inline operations() {
#ifdef OPEN
    if
    :: me == 1 -> open()
    :: else
    fi;
#endif
    do
    :: ops > 0 ->
       ops--;
       if
       :: get()
       :: hold != 0 -> put()
       :: me == 1 && hold == 0 -> share()
       fi;
#ifdef GIVE_OUTSIDE_BUSY
       d_step { put_back() }
#endif
    :: ops == 0 -> break
    od;
    if
    :: CLOSE & (1 << me) -> close()
    :: else
    fi
}

proctype client(byte me; byte id; byte ops) {
    byte m, v, w, x, c, i, got, old, hold;
    bool ok;
    operations();
    ended++
}

proctype mortal(byte me; byte id; byte ops) {
    byte m, v, w, x, c, i, got, old, hold;
    bool ok;
    { operations() } unless { dead[me] }
    ended++
}

#ifdef END
proctype outcast(byte me; byte id; byte ops) {
    byte m, v, w, x, c, i, got, old, hold;
    bool ok;
    { operations() } unless { dead[me] || refused[me] }
    ended++
}
#endif

/* reclaim() of the dead client in lane `l`. */
inline reclaim() {
    fill[l] == 0; /* the kernel has switched away from it: what it stored is in memory */
#ifdef FREE_BEFORE_TAKE
    mem[BUSY(l)] = 0;
#endif
    old = 1;
    do
    :: old <= MAGAZINES ->
       d_step { w = mem[WORD(old)]; ok = (STATE(w) == OWNED(l)) } /* R0 */
       if
       :: ok -> cas(WORD(old), w, NEXT(w, OWNED(me)), ok)
       :: else
       fi;
       if
       :: ok ->
          d_step { /* tidy_magazine(): keeps what is FREE(m), each once */
              m = old;
              x = 0;
              i = 0;
              do
              :: i < CAPACITY ->
                 s = mem[ITEM(old, i)];
                 if
                 :: s != 0 && mem[SLOT(s)] == FREE(old) && (x == 0 || mem[ITEM(old, 0)] != s) ->
                    mem[ITEM(old, x)] = s;
                    x++
                 :: else
                 fi;
                 i++
              :: else -> break
              od;
              mem[COUNT(old)] = x;
              i = 0;
              s = 0;
              put_back();
              old = m;
              m = 0
          }
       :: else
       fi;
       old++
    :: else -> break
    od;
    old = 0;
    s = 1;
    do
    :: s <= SLOTS ->
       if
       :: mem[SLOT(s)] == HELD(l) -> /* R2, in a magazine that the daemon owns meanwhile */
          got = 0;
          claim(true);
          d_step {
              assert(got != 0);
              old = got;
              got = 0;
              mem[ITEM(old, mem[COUNT(old)])] = s;
              mem[SLOT(s)] = FREE(old);
              mem[COUNT(old)] = mem[COUNT(old)] + 1;
              holder[s] = 0;
              put_back()
          }
       :: else
       fi;
       s++
    :: else -> break
    od;
    skip;
    /* free_lane() */
    d_step { loaded[l] = 0; previous[l] = 0; inside[l] = 0; m = 0; w = 0; s = 0; ok = 0 }
    mem[LOADED(l)] = 0;
    mem[PREVIOUS(l)] = 0;
    mem[BUSY(l)] = 0
}

/* The end: all clients are done or taken back, and nothing lingers. */
inline check_slots() {
    d_step {
        s = 1;
        do
        :: s <= SLOTS ->
           w = mem[SLOT(s)];
           if
           :: w >= 16 -> assert(holder[s] == w - 16 && (w == HELD(NEWCOMER) || !dead[w - 16]))
           :: else ->
              assert(holder[s] == 0 && w != 0);
              x = 0;
              i = 0;
              do
              :: i < mem[COUNT(w)] ->
                 if
                 :: mem[ITEM(w, i)] == s -> x++
                 :: else
                 fi;
                 i++
              :: else -> break
              od;
              assert(x == 1) /* lost */
           fi;
           s++
        :: else -> break
        od
    }
}

#ifdef END
/* In a step: tidy_magazine() and give() of magazine `old`, which the daemon has claimed. */
inline tidy_and_give() {
    m = old;
    put_back();
    old = m;
    m = 0
}

/* One shut_out() of lane 1; busy: it was in an operation. */
inline shut_out() {
    busy = false;
    if
    :: mem[LANE] != 0 ->
       d_step { mem[REVOKED(1)] = mem[REVOKED(1)] | 2 } /* E2 */
#ifndef NO_BARRIER
       membarrier(x); /* S3 */
#endif
       busy = (mem[BUSY(1)] != 0); /* S4 */
       old = 1;
       do
       :: old <= MAGAZINES && !busy ->
          d_step { w = mem[WORD(old)]; ok = (STATE(w) == OWNED(1)) }
          if
          :: ok ->
             d_step { /* E3 */
                 swap_if(WORD(old), w, NEXT(w, OWNED(me)), ok);
                 assert(!ok || inside[1] == 0 || (loaded[1] != old && previous[1] != old)) /* two users */
             }
             if
             :: ok -> d_step { tidy_and_give() }
             :: else
             fi
          :: else
          fi;
          d_step { w = 0; ok = 0; old++ }
       :: else -> break
       od;
       old = 0
    :: else
    fi
}

/* Ends the client of lane 1, which may die. Then all is checked, at the latest once it is dead. */
proctype ender(byte me) {
    byte m, w, x, i, s, l, old, got;
    bool ok, busy;
    d_step { l = 1; mem[EPOCH] = 1 } /* E0 */
    shut_out();
    do
    :: busy -> shut_out()
    :: !busy -> break
    od;
    skip;
#ifdef FREE_LANE
    d_step { mem[BUSY(1)] = 0; mem[REVOKED(1)] = 0 }
#endif
    if
    :: ended == CLIENTS && ALL_DRAINED ->
       shut_out();
       d_step {
           assert(!busy);
           old = 1;
           do
           :: old <= MAGAZINES -> assert(STATE(mem[WORD(old)]) != OWNED(1)); old++ /* goes on */
           :: else -> break
           od;
           old = 0
       }
       check_slots()
    :: d_step { true -> dead[1] = true }
       reclaim();
       ended == CLIENTS && ALL_DRAINED;
       check_slots()
    fi
}
#endif

proctype daemon(byte me) {
    byte m, w, x, i, s, l, old, got;
    bool ok;
    if
    :: d_step { KILL & 2 -> l = 1; dead[1] = true }
    :: d_step { KILL & 4 -> l = 2; dead[2] = true }
    :: d_step { true -> l = 0 }
    fi;
    if
    :: l != 0 ->
       reclaim();
       if
       :: REUSE > 0 ->
          run client(l, NEWCOMER, REUSE);
          ended == CLIENTS + 1 && ALL_DRAINED
       :: else -> ended == CLIENTS && ALL_DRAINED
       fi;
       check_slots()
    :: l != 0 -> goto down
    :: else ->
       ended == CLIENTS && ALL_DRAINED;
       check_slots()
    fi;
down:
    skip
}

init {
    d_step {
        /* Lane 1: loaded = magazine 1 with slot 1, previous = magazine 2 with slot 2. */
        loaded[1] = 1;
        previous[1] = 2;
        mem[LOADED(1)] = 1;
        mem[PREVIOUS(1)] = 2;
        mem[WORD(1)] = OWNED(1);
        mem[WORD(2)] = OWNED(1);
        mem[WORD(3)] = EMPTY;
        mem[COUNT(1)] = 1;
        mem[COUNT(2)] = 1;
        mem[ITEM(1, 0)] = 1;
        mem[ITEM(2, 0)] = 2;
        mem[SLOT(1)] = FREE(1);
        mem[SLOT(2)] = FREE(2);
#ifdef OPEN
        /* Nobody has them yet. */
        loaded[1] = 0;
        previous[1] = 0;
        mem[LOADED(1)] = 0;
        mem[PREVIOUS(1)] = 0;
        mem[WORD(1)] = FULL;
        mem[WORD(2)] = FULL;
#elif defined(END)
        mem[LANE] = 1;
#endif
        skip
    }
    atomic {
        run drain(1);
#if BUFFERS > 1
        run drain(2);
#endif
#ifdef END
        run outcast(1, 1, VICTIM_OPS);
#elif KILL & 2
        run mortal(1, 1, VICTIM_OPS);
#else
        run client(1, 1, VICTIM_OPS);
#endif
#if KILL & 4
        run mortal(2, 2, THIEF_OPS);
#else
        run client(2, 2, THIEF_OPS);
#endif
#if CLIENTS > 2
        run client(3, 3, THIEF_OPS);
#endif
#ifdef END
        run ender(0)
#else
        run daemon(0)
#endif
    }
}
