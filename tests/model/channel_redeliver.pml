/* Redelivery: what a dead receiver of a channel of form `many` had in hand comes into a second ring, which only
 * the daemon fills and receivers look at first. See README.md, "Channels", and channel_many.pml.
 *
 * Two messages stand in the first ring, sent by who is gone; two receivers. What they receive they work on, and
 * then put it or take it. They die between any two steps and have successors of the same id; the daemon dies in
 * the middle of a pass. EARLY: it makes a pass beside the living too, as each second.
 *
 *   TK1 take(): the record's generation made stale; then the slot is an ordinary one
 *   RD1 load word and record: HELD(dead), one generation after the record's, is a message in hand;
 *       INSIDE with another generation than the record's is one in mid-way; INSIDE with the record's is
 *       looked up in the cell of the record's position: not there, it has no cell
 *   RD2 CAS to INSIDE, one generation on: no record names it, so nobody can claim it (in mid-way: it is so already)
 *   RD3 store the record's position, in the second ring    RD4 store its generation
 *   RD5 CAS the cell    RD6 move the tail on      no room: again in the next pass
 *   receivers: RM1 to RM8 in the second ring, then in the first
 *
 * Asserted, by variables no client reads:
 *   overwritten a record is written by who holds the slot, or by the daemon while nobody can claim it
 *   twice       what was worked on to the end is not delivered again
 *   lost        in the end each message was worked on to the end, and every slot is free; the daemon needs few passes
 *
 * Senders are left out: they have the first ring and their own slots' records, as in channel_many.pml; the
 * daemon touches neither. Broken on purpose: NO_STALE (TK1), FREES_ALL (RD1 takes a message in hand for a slot),
 * FORGETS (RD1 without what is in mid-way), NO_RAISE (RD2 not for what has no cell), GENERATION_FIRST (RD4 before RD3).
 */
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#define MESSAGES 2
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef DAEMON_DEATHS
#define DAEMON_DEATHS 1
#endif
#ifndef GENERATIONS
#define GENERATIONS 8
#endif
#ifndef DEPTH
#define DEPTH 2
#endif
#ifndef EARLY
#define EARLY true /* a pass beside the living, whenever it likes */
#endif
#define SLOTS 2
#define CELLS 2
#define CLIENTS (RECEIVERS + 1)
#define DAEMON CLIENTS
#define BUFFERS RECEIVERS /* the daemon's stores RD3 and RD4 are in order, with no load before RD5 */

/* Ring 0 is the senders', ring 1 the daemon's. A position in a record: ring * 128 + position. */
#define WORD(i) ((i) - 1)
#define RECORD_GENERATION(i) (SLOTS + 2 * (i) - 2)
#define RECORD_POSITION(i) (SLOTS + 2 * (i) - 1)
#define SIZE (3 * SLOTS)
byte cell_lap[2 * CELLS], cell_slot[2 * CELLS];
byte head[2], tail[2];
#define PLACE(r, p) ((r) * CELLS + (p) % CELLS)

#define FREE 0
#define HELD(l) (l)
#define INSIDE 8
#define W(g, s) (16 * ((g) % GENERATIONS) + (s))
#define STATE(w) ((w) % 16)
#define GENERATION(w) ((w) / 16)
#define ON(w) (GENERATION(w) + 1)
#define BACK(w) ((GENERATION(w) + GENERATIONS - 1) % GENERATIONS)

/* Ghosts. */
byte holder[SLOTS + 1]; /* 0: nobody; a client; INSIDE: in the channel */
byte message[SLOTS + 1]; /* which message is in it, 0: none */
bool processed[MESSAGES + 1];
byte ended;
bool kill[CLIENTS + 1], dead[CLIENTS + 1], over[CLIENTS + 1];
bool kill_daemon, at_work;
byte deaths = DEATHS, daemon_deaths = DAEMON_DEATHS;

/* A record is written by who holds the slot: a client, or the daemon while nobody can claim it. */
inline reached(by, spot_, value_) {
    if
    :: (spot_) < SLOTS ->
       assert(holder[(spot_) + 1] == by);
       if
       :: STATE(value_) == FREE -> holder[(spot_) + 1] = 0
       :: else
       fi
    :: else ->
       assert(holder[((spot_) - SLOTS) / 2 + 1] == (by == DAEMON -> INSIDE : by))
    fi
}

#include "tso.pml"

inline help(position, from) {
    d_step {
        if
        :: position == from -> drain_all(me); position = from + 1
        :: else
        fi
    }
}

/* RM1 to RM8 in ring r. got: the slot, h: the generation it was sent with. */
inline receive(r) {
    do
    :: d_step { at = head[r]; lap = cell_lap[PLACE(r, at)]; i = cell_slot[PLACE(r, at)] }
       if
       :: lap == at / CELLS && i == 0 -> break
       :: lap == at / CELLS && i != 0 ->
          load(RECORD_GENERATION(i), h);
          d_step { view(RECORD_POSITION(i), x); ok = (x == 128 * r + at); x = 0; again = false }
          if
          :: ok ->
             d_step { view(WORD(i), x); ok = (STATE(x) == INSIDE && GENERATION(x) == h) }
             if
             :: ok ->
                d_step { /* RM6 */
                    swap_if(WORD(i), x, W(h + 1, HELD(me)), ok);
                    if
                    :: ok -> assert(holder[i] == INSIDE); holder[i] = me; got = i
                    :: else -> again = true
                    fi
                }
             :: else
             fi
          :: else
          fi;
          if
          :: !again ->
             d_step { /* RM7 */
                 if
                 :: cell_lap[PLACE(r, at)] == lap && cell_slot[PLACE(r, at)] == i ->
                    drain_all(me);
                    cell_lap[PLACE(r, at)] = lap + 1;
                    cell_slot[PLACE(r, at)] = 0
                 :: else
                 fi
             }
             help(head[r], at) /* RM8 */
          :: else
          fi;
          if
          :: got != 0 -> break
          :: else
          fi
       :: lap == at / CELLS + 1 -> help(head[r], at)
       :: else ->
          d_step { ok = (head[r] == at) }
          if
          :: ok -> break
          :: else
          fi
       fi
    od;
    skip;
    d_step { at = 0; lap = 0; i = 0; x = 0; ok = false; again = false }
}

/* What is received is worked on; then it is put, or taken: then its record is made stale, and the slot used. */
inline work_on() {
    if
    :: d_step { /* F2 */
           assert(message[got] != 0);
           processed[message[got]] = true;
           message[got] = 0;
           put_store(WORD(got), W(h + 1, FREE))
       }
    :: d_step { /* TK1 */
           assert(message[got] != 0);
           processed[message[got]] = true;
           message[got] = 0
#ifndef NO_STALE
           ; put_store(RECORD_GENERATION(got), (h + GENERATIONS - 1) % GENERATIONS)
#endif
       }
       d_step { put_store(WORD(got), W(h + 1, FREE)) }
    fi
}

#define NOTHING (cell_slot[0] + cell_slot[1] + cell_slot[2] + cell_slot[3] == 0 && \
                 holder[1] == 0 && holder[2] == 0)

inline receiver() {
    do
    :: cell_slot[0] + cell_slot[1] + cell_slot[2] + cell_slot[3] != 0 ->
       receive(1);
       if
       :: got == 0 -> receive(0)
       :: else
       fi;
       if
       :: got != 0 -> work_on()
       :: else
       fi;
       d_step { got = 0; h = 0 }
    :: NOTHING -> break
    od
}

proctype receiving(byte me) {
    byte got, h, at, lap, i, x;
    bool ok, again;
once_more:
    { receiver() } unless { kill[me] }
    if
    :: kill[me] ->
       d_step { got = 0; h = 0; at = 0; lap = 0; i = 0; x = 0; ok = false; again = false; kill[me] = false; dead[me] = true }
       !dead[me];
       goto once_more
    :: else
    fi;
    d_step {
        drain_all(me);
        if
        :: kill[me]
        :: else -> over[me] = true; ended++
        fi
    }
    if
    :: over[me]
    :: else -> goto once_more
    fi
}

#define MAY_DIE(l) (deaths > 0 && !kill[l] && !dead[l] && !over[l])

proctype killer() {
end:
    do
    :: d_step { MAY_DIE(1) -> deaths--; kill[1] = true; drain_all(1) }
#if RECEIVERS > 1
    :: d_step { MAY_DIE(2) -> deaths--; kill[2] = true; drain_all(2) }
#endif
    :: d_step { daemon_deaths > 0 && at_work -> daemon_deaths--; kill_daemon = true }
    od
}

/* Slot i says INSIDE, word w, and nobody can claim it: its record names another generation. */
inline fill_in() {
    do /* a lagging tail is moved on: RD6 of who died before it */
    :: d_step { at = tail[1]; ok = (cell_slot[PLACE(1, at)] == 0 && cell_lap[PLACE(1, at)] == at / CELLS); x = (cell_lap[PLACE(1, at)] > at / CELLS || cell_slot[PLACE(1, at)] != 0 && cell_lap[PLACE(1, at)] == at / CELLS) }
       if
       :: !ok && x -> help(tail[1], at)
       :: else -> break
       fi
    od;
    if
    :: ok ->
#ifdef GENERATION_FIRST
       store(RECORD_GENERATION(i), GENERATION(w));
       store(RECORD_POSITION(i), 128 + at);
#else
       store(RECORD_POSITION(i), 128 + at);        /* RD3 */
       store(RECORD_GENERATION(i), GENERATION(w)); /* RD4 */
#endif
       d_step { drain_all(me); cell_slot[PLACE(1, at)] = i } /* RD5 */
       help(tail[1], at)                                     /* RD6 */
    :: else /* no room: the next pass */
    fi;
    d_step { at = 0; x = 0; ok = false }
}

#define NONE 254
#define ITS_CELL 255

/* One pass; l: who is dead, 0: nobody. */
inline pass() {
    i = 1;
    do
    :: i <= SLOTS ->
       d_step { /* RD1 */
           view(WORD(i), w);
           view(RECORD_GENERATION(i), g);
           view(RECORD_POSITION(i), p);
           x = NONE;
           if
#ifdef FREES_ALL
           :: l != 0 && STATE(w) == HELD(l) && g == BACK(w) -> x = W(ON(w), FREE)
#else
           :: l != 0 && STATE(w) == HELD(l) && g == BACK(w) -> x = W(ON(w), INSIDE)
#endif
           :: l != 0 && STATE(w) == HELD(l) && g != BACK(w) -> x = W(ON(w), FREE)
#ifndef FORGETS
           :: STATE(w) == INSIDE && g != GENERATION(w) -> x = w
#endif
           :: STATE(w) == INSIDE && g == GENERATION(w) -> x = ITS_CELL /* its cell? */
           :: else
           fi
       }
       if
       :: x == ITS_CELL ->
          d_step {
              at = p % 128;
              if
              :: cell_slot[PLACE(p / 128, at)] == i && cell_lap[PLACE(p / 128, at)] == at / CELLS -> x = NONE
#ifdef NO_RAISE
              :: else -> x = w
#else
              :: else -> x = W(ON(w), INSIDE)
#endif
              fi;
              at = 0
          }
       :: else
       fi;
       if
       :: x != NONE ->
          d_step { /* RD2 */
              ok = true;
              if
              :: x != w -> swap_if(WORD(i), w, x, ok)
              :: else
              fi;
              if
              :: ok && STATE(x) == FREE -> assert(holder[i] == l); holder[i] = 0; message[i] = 0
              :: ok && STATE(x) != FREE -> holder[i] = INSIDE
              :: else
              fi;
              w = x;
              x = 0
          }
          if
          :: ok && STATE(w) == INSIDE -> ok = false; fill_in()
          :: else -> ok = false
          fi
       :: else
       fi;
       d_step { w = 0; g = 0; p = 0; x = 0; i++ }
    :: else -> break
    od;
    skip;
    d_step {
        if
        :: l != 0 -> dead[l] = false
        :: else
        fi;
        i = 0; l = 0; at_work = false
    }
}

inline work() {
    do
    :: d_step { dead[1] -> l = 1; at_work = true }; pass()
#if RECEIVERS > 1
    :: d_step { dead[2] -> l = 2; at_work = true }; pass()
#endif
    :: d_step { early && (holder[1] == INSIDE || holder[2] == INSIDE) -> early = false; at_work = true }; pass()
    :: timeout -> d_step { assert(passes > 0); passes--; at_work = true }; pass() /* each second */
    :: ended == RECEIVERS -> break
    od
}

proctype daemon(byte me) {
    byte l, i, w, g, p, x, at, passes = 3;
    bool ok, early = EARLY;
    { work() } unless { kill_daemon }
    if
    :: kill_daemon ->
       d_step { l = 0; i = 0; w = 0; g = 0; p = 0; x = 0; at = 0; ok = false; kill_daemon = false; at_work = true }
       pass(); /* the next one: what was left in the middle */
       work()
    :: else
    fi;
    skip;
    d_step {
        i = 1;
        do
        :: i <= SLOTS -> assert(holder[i] == 0 && STATE(mem[WORD(i)]) == FREE && processed[i]); i++
        :: else -> break
        od
    }
}

init {
    byte l;
    d_step {
        /* Two messages, published by a sender that is gone. */
        mem[WORD(1)] = W(GENERATIONS - 1, INSIDE);
        mem[WORD(2)] = W(GENERATIONS - 2, INSIDE);
        mem[RECORD_GENERATION(1)] = GENERATIONS - 1;
        mem[RECORD_GENERATION(2)] = GENERATIONS - 2;
        mem[RECORD_POSITION(1)] = 0;
        mem[RECORD_POSITION(2)] = 1;
        cell_slot[0] = 1;
        cell_slot[1] = 2;
        tail[0] = 2;
        holder[1] = INSIDE;
        holder[2] = INSIDE;
        message[1] = 1;
        message[2] = 2
    }
    atomic {
        l = 1;
        do
        :: l <= RECEIVERS -> run receiving(l); run drain(l); l++
        :: else -> l = 0; break
        od;
        run daemon(DAEMON);
        run killer()
    }
}
