/* Waiting in a channel, by futex: senders for room, receivers for messages. See README.md, "Channels".
 *
 * Senders send SENDS messages each, receivers receive for ever or until their time is up (TIMEOUTS), in a
 * channel of CELLS cells. Whose a cell is stands in channel_one.pml and channel_many.pml: here ghosts keep
 * two from taking the same, and what is given is a plain store that lingers in a store buffer. The first sender and
 * the last receiver may die anywhere (DEATHS), between publishing and waking too; the daemon takes back.
 *
 *   WT1 after giving: load waiting      WT2 if somebody waits: sequence + 1, behind a fence    WT3 futex_wake of one
 *   WT4 waiting + 1      WT5 barrier on all processors     WT6 load the sequence     WT7 try
 *   WT8 sleep if the sequence is still that; woken: again from WT6, even if the time is up    WT9 waiting - 1
 *   WT10 the daemon: what the dead counted is taken off    WT11 both sequences + 1, wake all
 *
 * Asserted, by variables no client reads: when nobody can go on, nobody sleeps beside what it waits for.
 * A system call is made only between somebody's WT4 and WT9 or WT10: by WT1, which is not a thing to search for.
 *
 * Broken on purpose: NO_BARRIER (WT5), LATE_SEQUENCE (WT6 after WT7), QUIET_RECLAIM (no WT11), LEAVES_WOKEN (who
 * was woken goes without another look when its time is up).
 */
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef SENDS
#define SENDS 1 /* of each sender */
#endif
#ifndef CELLS
#define CELLS 2
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 0 /* how many receivers may give up waiting */
#endif
#ifndef DEPTH
#define DEPTH 2
#endif
#define CLIENTS (SENDERS + RECEIVERS)
#define BUFFERS CLIENTS

/* Memory that is stored to: what a sender published, and what a receiver took, each in its own word,
 * so that the publication is a plain store, as in form `one`; the sums are what is in the channel. */
#define SENT(l) ((l) - 1)
#define TAKEN(l) ((l) - 1)
#define ARMED CLIENTS /* the receiver's end: 1: wake me by my descriptor */
#define SIZE (CLIENTS + 1)

/* Changed by atomic additions and by the kernel. */
byte waiting[2];        /* who waits: 0: for room, 1: for a message */
byte sequence[2];       /* the futex of each */
bool asleep[CLIENTS + 1], woken[CLIENTS + 1];
byte counted[CLIENTS + 1]; /* in its end's record: 1 + what it waits for */

/* Ghosts. */
bool dead[CLIENTS + 1], gone[CLIENTS + 1];
byte deaths = DEATHS, timeouts = TIMEOUTS;
byte ended;
byte taken_or_reserved; /* messages that receivers have decided to take */
byte sent_or_reserved;

#define reached(l, a, x) skip

#include "tso.pml"

#if CLIENTS == 2
#define ALL_SENT (mem[SENT(1)])
#define ALL_TAKEN (mem[TAKEN(2)])
#elif SENDERS == 2 && RECEIVERS == 1
#define ALL_SENT (mem[SENT(1)] + mem[SENT(2)])
#define ALL_TAKEN (mem[TAKEN(3)])
#elif SENDERS == 1
#define ALL_SENT (mem[SENT(1)])
#define ALL_TAKEN (mem[TAKEN(2)] + mem[TAKEN(3)])
#else
#define ALL_SENT (mem[SENT(1)] + mem[SENT(2)])
#define ALL_TAKEN (mem[TAKEN(3)] + mem[TAKEN(4)])
#endif

#define ROOM 0
#define MESSAGE 1

/* In a step: futex_wake of one, or of all. A system call: somebody waits, or died waiting. */
inline wake(what, everybody) {
    v = 1;
    do
    :: v <= CLIENTS ->
       if
       :: asleep[v] && counted[v] == 1 + what ->
          asleep[v] = false;
          woken[v] = true;
          if
          :: everybody
          :: else -> break
          fi
       :: else
       fi;
       v++
    :: else -> break
    od;
    v = 0
}

/* After something was given. */
inline wake_if_waited_for(what) {
    x = waiting[what]; /* WT1 */
    if
    :: x != 0 ->
       d_step { drain_all(me); sequence[what]++; x = 0 } /* WT2 */
       d_step { wake(what, false) }                      /* WT3 */
    :: else
    fi
}

/* A try; got: done. Whose cell is stands in channel_one.pml and channel_many.pml: here the ghosts see to
 * it that no two take the same. What is given lingers in the store buffer, as by a plain store. */
inline try(what) {
    d_step {
        if
        :: what == MESSAGE && ALL_SENT > taken_or_reserved ->
           taken_or_reserved++;
           got = true;
           view(TAKEN(me), x);
           put_store(TAKEN(me), x + 1)
        :: what == ROOM && ALL_TAKEN + CELLS > sent_or_reserved ->
           sent_or_reserved++;
           got = true;
           view(SENT(me), x);
           put_store(SENT(me), x + 1)
        :: else -> got = false
        fi;
        x = 0
    }
}

inline wait_for(what) {
    d_step { drain_all(me); waiting[what]++; counted[me] = 1 + what } /* WT4 */
#ifndef NO_BARRIER
    membarrier(x); /* WT5 */
#endif
    do
    ::
#ifdef LATE_SEQUENCE
       try(what);
       seen = sequence[what];
#else
       seen = sequence[what]; /* WT6 */
       try(what);             /* WT7 */
#endif
       if
       :: got -> break
       :: else -> skip;
          d_step { woken[me] = false; asleep[me] = (sequence[what] == seen) } /* WT8 */
end:      if
          :: !asleep[me]
          :: d_step { asleep[me] && timeouts > 0 && what == MESSAGE -> timeouts--; asleep[me] = false; gone[me] = true } -> break
          fi
#ifdef LEAVES_WOKEN
          ;
          if
          :: d_step { woken[me] && timeouts > 0 && what == MESSAGE -> timeouts--; gone[me] = true } -> break
          :: true
          fi
#endif
       fi
    od;
    skip;
    d_step { seen = 0; drain_all(me); waiting[what]--; counted[me] = 0; woken[me] = false } /* WT9 */
}

inline once(what) {
    try(what);
    if
    :: got
    :: else -> wait_for(what)
    fi;
    if
    :: got ->
       got = false;
       wake_if_waited_for(1 - what)
    :: else
    fi
}

inline sender() {
    do
    :: ops > 0 -> ops--; once(ROOM)
    :: ops == 0 -> break
    od
}

inline receiver() {
    do
    :: !gone[me] -> once(MESSAGE) /* it receives for ever, or until its time is up */
    :: gone[me] -> break
    od
}

#define LOCALS byte ops = SENDS, x, v, seen; bool got

proctype sending(byte me) { LOCALS; { sender() } unless { dead[me] } ended++ }
proctype receiving(byte me) { LOCALS; { receiver() } unless { dead[me] } }

/* Kills, and takes back: what waited of the dead is not counted any more, and all look again. */
proctype daemon(byte me) {
    byte l, v;
end:
    do
    :: d_step { deaths > 0 && !dead[1] && ended == 0 -> deaths--; l = 1; dead[1] = true; asleep[1] = false; drain_all(1) }
       goto take
    :: d_step { deaths > 0 && !dead[CLIENTS] && !gone[CLIENTS] -> deaths--; l = CLIENTS; dead[CLIENTS] = true; asleep[CLIENTS] = false; drain_all(CLIENTS) }
       goto take
    od;
take: skip;
    d_step { /* WT10 */
        if
        :: counted[l] != 0 -> waiting[counted[l] - 1]--; counted[l] = 0
        :: else
        fi
    }
#ifndef QUIET_RECLAIM
    d_step { /* WT11 */
        sequence[0]++;
        sequence[1]++;
        wake(ROOM, true);
        wake(MESSAGE, true);
        l = 0
    }
#endif
    goto end
}

/* Runs only when nobody else can: nobody sleeps beside what it waits for. */
proctype monitor() {
    byte l;
    do
    :: timeout ->
       d_step {
           l = 1;
           do
           :: l <= CLIENTS ->
              assert(!(asleep[l] && l > SENDERS && ALL_SENT > taken_or_reserved));
              assert(!(asleep[l] && l <= SENDERS && ALL_TAKEN + CELLS > sent_or_reserved));
              l++
           :: else -> break
           od;
           l = 0
       }
       break
    od
}

init {
    byte l;
    atomic {
        l = 1;
        do
        :: l <= CLIENTS ->
           if
           :: l <= SENDERS -> run sending(l)
           :: else -> run receiving(l)
           fi;
           run drain(l);
           l++
        :: else -> l = 0; break
        od;
        run daemon(0);
        run monitor()
    }
}
