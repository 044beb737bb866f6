/* Waiting: no wake is lost. See docs/concurrency.md, "The models"; the code is waiting.hpp, with
 * Lane::put, LaneMagazines::share and ClientImpl::share_if_waited_for.
 *
 * Lanes from 1 on: PUTTERS that put one slot each, GETTERS that get one, WAITERS that wait for one.
 * Putters and getters have store buffers. DEPOT slots lie in the depot at the beginning. One of KILL
 * (bit l: lane l) may be killed between any two steps.
 *
 * A lane's magazines are the number of slots in them: steal.pml shows that a lane whose busy is 0
 * behind the barrier loses its magazine as a whole or keeps it. A thief takes all a lane has, unless
 * what it read at S1 is out of date: `looked[v]` has the thieves that S5 may still let succeed.
 *
 * Asserted, whenever nobody can go on but by a sleeper's time slice: no waiter sleeps while a slot
 * lies in the depot or in an idle lane. Somebody killed may have taken a wake along; then the
 * sleepers look again once, as after a slice or a reclaim, and it must hold then.
 * A waiter that saw a busy lane with slots looks again and doesn't sleep.
 *
 * STOP: the last waiter is stopped at some moment and goes on later, its sleep over; meanwhile it may be
 * taken out of the count (pulse.hpp). It is not asked of who stands still that it finds a slot.
 *
 * Broken on purpose: ASK_EARLY (W1 before the put), NO_BARRIER (W3 left out), LATE_SEQUENCE (W4 after the
 * look), QUIET_GET (a get that brought a magazine doesn't do W1). With STOP: STAYS_OUT (no W8), LATE_RETURN
 * (W8 after the look), EARLY_RETURN (W8 before W4), QUIET_TAKER (no W6 after W9).
 */
#ifndef PUTTERS
#define PUTTERS 2
#endif
#ifndef GETTERS
#define GETTERS 0
#endif
#ifndef WAITERS
#define WAITERS 2
#endif
#ifndef DEPOT
#define DEPOT 0
#endif
#ifndef KILL
#define KILL 0
#endif
#ifdef STOP
#define LIVELY provided (!stopped[me])
#else
#define LIVELY
#endif
#ifndef DEPTH
#define DEPTH 4
#endif

#define CLIENTS (PUTTERS + GETTERS + WAITERS)
#define BUFFERS (PUTTERS + GETTERS)

#define BUSY(l) (3 * (l) - 3)
#define REVOKED(l) (3 * (l) - 2)
#define COUNT(l) (3 * (l) - 1)
#define SIZE (3 * CLIENTS)

#define reached(l, a, x) skip

#include "tso.pml"

byte depot = DEPOT;
byte waiters, sequence;
byte looked[CLIENTS + 1];
bool asleep[CLIENTS + 1], dead[CLIENTS + 1];
bool somebody_died, looked_again;
#ifdef STOP
bool counted[CLIENTS + 1], stopped[CLIENTS + 1];
#endif

inline enter() {
    store(BUSY(me), 1); /* B1 */
    load(REVOKED(me), x); /* B2 */
    if
    :: x != 0 ->
       d_step { put_store(REVOKED(me), 0); drain_all(me) } /* V1, V2 */
       looked[me] = 0                                      /* V3 */
    :: else
    fi;
    x = 0
}

/* LaneMagazines::share() and Depot::wake(). */
inline share() {
    enter();
    d_step { /* G1 and the hint: behind CASes of the ring */
        view(COUNT(me), n);
        if
        :: n != 0 -> put_store(COUNT(me), 0); drain_all(me); depot = depot + n; looked[me] = 0
        :: else
        fi
    }
    store(BUSY(me), 0); /* B3 */
    d_step { /* W6 */
        if
        :: n != 0 -> drain_all(me); sequence++
        :: else
        fi
    }
    d_step { /* futex_wake: one a slot */
        v = 1;
        do
        :: v <= CLIENTS && n != 0 ->
           if
           :: asleep[v] -> asleep[v] = false; n--
           :: else
           fi;
           v++
        :: else -> break
        od;
        v = 0;
        n = 0
    }
}

inline share_if_waited_for() {
    x = waiters; /* W1 */
    if
    :: x != 0 -> x = 0; share()
    :: else
    fi
}

/* Lane::get(): got, refilled; others_busy: a lane with slots was in mid-operation. */
inline get() {
    enter();
    others_busy = false;
    d_step { view(COUNT(me), n); refilled = (n == 0) }
    if
    :: n == 0 ->
       d_step { /* T1 of a magazine with all there is; the client's buffer drains at the CAS */
           if
           :: depot != 0 -> drain_all(me); n = depot; depot = 0; put_store(COUNT(me), n); looked[me] = 0
           :: else
           fi
       }
       v = 1;
       do
       :: n == 0 && v <= CLIENTS ->
          d_step { /* S1 */
              x = (v != me && mem[COUNT(v)] != 0);
              looked[v] = looked[v] | (x << me)
          }
          if
          :: x != 0 ->
             d_step { drain_all(me); mem[REVOKED(v)] = 1 } /* S2 */
             membarrier(x); /* S3 */
             load(BUSY(v), x); /* S4 */
             if
             :: x == 0 ->
                d_step { /* S5 */
                    if
                    :: looked[v] & (1 << me) ->
                       drain_all(me);
                       n = mem[COUNT(v)];
                       mem[COUNT(v)] = 0;
                       put_store(COUNT(me), n);
                       looked[v] = 0;
                       looked[me] = 0
                    :: else -> others_busy = true
                    fi
                }
             :: else ->
                d_step { others_busy = true; looked[v] = looked[v] & ~(1 << me) }
             fi;
             x = 0
          :: else
          fi;
          v++
       :: else -> break
       od;
       v = 0
    :: else
    fi;
    d_step { /* C1 */
        got = (n != 0);
        if
        :: got -> put_store(COUNT(me), n - 1)
        :: else
        fi;
        n = 0
    }
    store(BUSY(me), 0) /* B3 */
}

inline put() {
    enter();
#ifdef ASK_EARLY
    x = waiters;
#endif
    d_step { view(COUNT(me), n); put_store(COUNT(me), n + 1); n = 0 } /* F2 */
    store(BUSY(me), 0); /* B3 */
#ifdef ASK_EARLY
    if
    :: x != 0 -> x = 0; share()
    :: else
    fi
#else
    share_if_waited_for()
#endif
}

inline enlist() {
#ifdef STOP
    d_step { drain_all(me); waiters++; counted[me] = true } /* W2 */
#else
    d_step { drain_all(me); waiters++ } /* W2 */
#endif
#ifndef NO_BARRIER
    membarrier(x) /* W3 */
#endif
}

#ifdef STOP
inline come_back() {
    if /* W8 */
    :: !counted[me] -> enlist()
    :: else
    fi
}
#endif

inline wait_for() {
    enlist();
    do
    ::
#ifdef STOP
#ifdef EARLY_RETURN
       come_back();
#endif
#endif
       seen = sequence; /* W4 */
#if defined(STOP) && !defined(EARLY_RETURN) && !defined(STAYS_OUT) && !defined(LATE_RETURN)
       come_back();
#endif
       get();
#ifdef LATE_RETURN
       come_back();
#endif
       if
       :: got -> break
       :: !got && others_busy
       :: !got && !others_busy ->
#ifdef LATE_SEQUENCE
          seen = sequence;
#endif
          d_step { asleep[me] = (sequence == seen) } /* W5 */
end:      !asleep[me]
       fi;
       seen = 0
    od;
    seen = 0;
#ifdef STOP
    d_step {
        if
        :: counted[me] -> counted[me] = false; waiters--
        :: else
        fi
    }
#else
    waiters--;
#endif
    share_if_waited_for()
}

#ifdef STOP
proctype stopper() {
    byte v;
    if
    :: true -> stopped[CLIENTS] = true; d_step { stopped[CLIENTS] = false; asleep[CLIENTS] = false }
    :: true
    fi
}

/* take_out_the_stopped(), for the last waiter, which stood still for a second; it may go on now. */
proctype taker() {
    byte v;
    bool ok;
    if
    :: stopped[CLIENTS] ->
       d_step { /* W9 */
           if
           :: counted[CLIENTS] -> counted[CLIENTS] = false; waiters--; ok = true
           :: else
           fi
       }
#ifndef QUIET_TAKER
       if
       :: ok ->
          d_step { /* W6 */
              sequence++;
              v = 1;
              do
              :: v <= CLIENTS -> asleep[v] = false; v++
              :: else -> break
              od;
              v = 0;
              ok = false
          }
       :: else
       fi
#endif
    :: true
    fi
}
#endif

#define LOCALS byte n, v, x, seen; bool got, refilled, others_busy

inline getting() {
    get();
#ifndef QUIET_GET
    if
    :: refilled && got -> share_if_waited_for()
    :: else
    fi
#endif
}

proctype putter(byte me) { LOCALS; put() }
proctype getter(byte me) { LOCALS; getting() }
proctype waiter(byte me) LIVELY { LOCALS; wait_for() }

#if KILL
proctype mortal_putter(byte me) { LOCALS; { put() } unless { dead[me] } }
proctype mortal_waiter(byte me) { LOCALS; { wait_for() } unless { dead[me] } }

proctype killer() {
    byte l;
    if
    :: l = 1
    :: l = CLIENTS
    fi;
    if
    :: d_step { KILL & (1 << l) -> dead[l] = true; asleep[l] = false; somebody_died = true }
    :: true
    fi
}
#endif

/* Runs only when nobody else can. */
proctype monitor() {
    byte l, sleeping, idle;
    do
    :: timeout ->
       d_step {
           sleeping = 0;
           idle = depot;
           l = 1;
           do
           :: l <= CLIENTS ->
              sleeping = sleeping + asleep[l];
              if
              :: mem[BUSY(l)] == 0 -> idle = idle + mem[COUNT(l)]
              :: else
              fi;
              l++
           :: else -> break
           od;
           assert(sleeping == 0 || idle == 0 || (somebody_died && !looked_again));
           looked_again = (sleeping != 0 && idle != 0);
           l = 1;
           do
           :: l <= CLIENTS && looked_again -> asleep[l] = false; l++
           :: else -> break
           od
       }
       if
       :: looked_again
       :: else -> break
       fi
    od
}

init {
    byte l;
    atomic {
        l = 1;
        do
        :: l <= CLIENTS ->
           if
           :: l <= PUTTERS ->
#if KILL & 2
              if
              :: l == 1 -> run mortal_putter(l)
              :: else -> run putter(l)
              fi
#else
              run putter(l)
#endif
           :: l > PUTTERS && l <= BUFFERS -> run getter(l)
           :: l > BUFFERS ->
#if KILL & ~2
              if
              :: l == CLIENTS -> run mortal_waiter(l)
              :: else -> run waiter(l)
              fi
#else
              run waiter(l)
#endif
           fi;
           if
           :: l <= BUFFERS -> run drain(l)
           :: else
           fi;
           l++
        :: else -> break
        od;
#if KILL
        run killer();
#endif
#ifdef STOP
        run stopper();
        run taker();
#endif
        run monitor()
    }
}
