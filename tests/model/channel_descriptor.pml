/* A receiver that waits by a descriptor: an epoll descriptor over its eventfd and its connection to the
 * daemon. See README.md, "Channels".
 *
 * Two senders send SENDS messages each; their plain stores linger in store buffers. Who has not been given
 * the eventfd (RELAY) asks the daemon to write to it. Sender 1 may die anywhere; the daemon may die anywhere and
 * start again, with nothing in its memory: then the owner's connection breaks. Whose a message is stands in
 * channel_one.pml and channel_many.pml: here a message is a number in the sender's word.
 *
 *   WD1 after publishing: load armed     WD2 if set: exchange it for 0    WD3 if it was set: write the eventfd, or ask
 *   WD4 clear the eventfd    WD5 connection broken: resume, hand the eventfd in    WD6 armed = 1
 *   WD7 barrier on all processors    WD8 look for messages    then wait for the descriptor
 *   the daemon, once it took back what a dead sender had: writes the eventfds it was handed
 *
 * Asserted, by variables no client reads:
 *   lost        when nobody can go on, the owner does not wait beside a message
 *   economy     at most one system call of senders for each time the receiver armed
 *
 * Broken on purpose: NO_BARRIER (WD7), LATE_DISARM (WD2 after WD3), PLAIN_DISARM (WD2 stores), LATE_CLEAR (WD4 after WD8),
 * LOOK_FIRST (WD8 before WD6), LOOK_BEFORE_RESUME (WD5 after WD8), QUIET_RECLAIM (the daemon does not write).
 */
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef SENDS
#define SENDS 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef DAEMON_DEATHS
#define DAEMON_DEATHS 1
#endif
#ifndef RELAY
#define RELAY 2 /* bit l: sender l has not been given the receiver's eventfd */
#endif
#ifndef DEPTH
#define DEPTH 2
#endif
#define CLIENTS (SENDERS + 1)
#define BUFFERS SENDERS
#define OWNER CLIENTS

#define SENT(l) ((l) - 1)
#define ARMED SENDERS
#define SIZE (SENDERS + 1)

/* The kernel's. */
bool event;      /* the eventfd is readable */
bool connected;  /* the owner's connection to the daemon stands */
bool asked;      /* a relay request lies in the daemon's socket */

/* The daemon's own memory, lost with it: whether it was handed the eventfd. */
bool up, has_event;

/* Ghosts. */
bool dead[CLIENTS + 1], reclaimed, waits;
byte deaths = DEATHS, daemon_deaths = DAEMON_DEATHS;
byte ended, received, credit; /* credit: armings whose write is to come */

#define reached(l, a, x) skip

#include "tso.pml"

#if SENDERS == 1
#define ALL_SENT (mem[SENT(1)])
#else
#define ALL_SENT (mem[SENT(1)] + mem[SENT(2)])
#endif

inline sender() {
    do
    :: ops > 0 ->
       ops--;
       d_step { view(SENT(me), x); put_store(SENT(me), x + 1); x = 0 }
       load(ARMED, x); /* WD1 */
       if
       :: x != 0 ->
#ifdef LATE_DISARM
          event = true;
          d_step { drain_all(me); mem[ARMED] = 0 }
#else
#ifdef PLAIN_DISARM
          store(ARMED, 0);
#else
          d_step { drain_all(me); x = mem[ARMED]; mem[ARMED] = 0 } /* WD2 */
#endif
          if
          :: x != 0 -> /* WD3: a system call, which drains its stores too */
             if
             :: RELAY & (1 << me) ->
                d_step { drain_all(me); assert(credit > 0); credit--; if :: up -> asked = true :: else fi }
             :: else ->
                d_step { drain_all(me); assert(credit > 0); credit--; event = true }
             fi
          :: else
          fi;
#endif
          x = 0
       :: else
       fi
    :: ops == 0 -> break
    od
}

proctype sending(byte me) {
    byte ops = SENDS, x;
    { sender() } unless { dead[me] }
    ended++
}

inline resume() { /* WD5: hands its eventfd in again; without a daemon a timer tries again */
    if
    :: !connected && up -> d_step { connected = true; has_event = true }
    :: else
    fi
}

inline look() { received = ALL_SENT } /* WD8 */

/* The program's loop: epoll_wait() on the channel's descriptor; if it is readable, receives all there is. */
proctype owner(byte me) {
    byte x;
    do
    ::
#ifndef LATE_CLEAR
       event = false; /* WD4 */
#endif
#ifndef LOOK_BEFORE_RESUME
       resume();
#endif
#ifdef LOOK_FIRST
       look();
#endif
       d_step { credit = credit + 1 - mem[ARMED]; mem[ARMED] = 1 } /* WD6 */
#ifndef NO_BARRIER
       membarrier(x); /* WD7 */
#endif
#ifndef LOOK_FIRST
       look();
#endif
#ifdef LATE_CLEAR
       event = false;
#endif
#ifdef LOOK_BEFORE_RESUME
       resume();
#endif
       waits = true;
end:   event || (!connected && up);
       waits = false
    od
}

/* Relays; takes back who died, and wakes; dies, and the next one begins with nothing in its memory. */
proctype daemon() {
end:
    do
    :: up && asked -> asked = false;
       if
       :: up && has_event -> event = true
       :: else
       fi
    :: d_step { up && dead[1] && !reclaimed ->
           reclaimed = true;
#ifndef QUIET_RECLAIM
           if
           :: has_event -> event = true
           :: else
           fi
#endif
       }
    :: d_step { daemon_deaths > 0 && up -> daemon_deaths--; up = false; has_event = false; connected = false; asked = false }
    :: d_step { !up -> up = true }
    od
}

proctype killer() {
end:
    d_step { deaths > 0 && ended == 0 -> deaths = 0; dead[1] = true; drain_all(1) }
}

/* Runs only when nobody else can. */
proctype monitor() {
    timeout -> assert(!waits || received == ALL_SENT)
}

init {
    d_step { up = true; connected = true; has_event = true }
    atomic {
        run sending(1);
        run drain(1);
#if SENDERS > 1
        run sending(2);
        run drain(2);
#endif
        run owner(OWNER);
        run daemon();
        run killer();
        run monitor()
    }
}
