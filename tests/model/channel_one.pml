/* A queue channel of form `one`: one sender, one receiver, plain stores only. See README.md, "Channels".
 *
 * Client 1 sends on channel 1 to client 2; with CHANNELS=2 client 2 sends on channel 2 to client 1, so that
 * a received message is sent on, and every client is an end of two channels. Two cells, three slots. All
 * plain stores linger in a store buffer. Clients die between any two steps and have successors of the same
 * id; the daemon dies in mid-reclaim, and the next one starts over. A drain and a removal go on beside a
 * receiver that may stand still anywhere. Generations start so that they wrap; they don't wrap within a window
 * (GENERATIONS=4: they do, and spin finds it).
 *
 *   SN1 revoked? removed: refuse     SN2 load head: room?     SN3 shown: CAS the word to HELD
 *   SN4 store the cell               SN5 store tail
 *   RC1 busy = 1   RC2 load revoked   RC3 load tail   RC4 load the cell; marked: only RC6
 *   RC5 store the word, HELD(r), one generation on; if revoked, by CAS, until it is not the sent one any more
 *   RC6 store head     RC7 busy = 0
 *   RE1 load head and tail of the dead one's channels   RE2 load its words, look for them in the cells
 *   RE3 CAS each: to INSIDE(channel) if it stands in a cell, else to FREE      RE4 busy = 0; then the id is free
 *   DR1 set revoked   DR2 barrier   DR3 load busy: so many cells from the head are left   DR4 load head, tail
 *   of each cell: DR5 load it   DR6 load head: passed it? leave it   DR7 CAS the word to FREE
 *   DR8 CAS the cell to "nothing here"         DR9 clear revoked (a removal does not)
 *
 * Asserted, by variables no client reads:
 *   overwritten a plain store of a word reaches it while the slot is its own
 *   twice       what is received was published and not received, and in order, none left out but by a drain
 *   lost        in the end each slot is free, its holder's, or in one published cell, unmarked
 *
 * Configurations, and why they suffice: the deaths (2) with one channel and with two; a drain, with a death
 * or with three messages; a removal; a shown handle. A drain or removal changes words and cells of its
 * channel only, and the daemon is the only one who does it, never in the middle of a reclaim: so it meets
 * the other channel only through words, which two channels have. A shown slot is private before SN4, so it
 * meets receivers and the daemon as any other does.
 *
 * Broken on purpose: TAIL_FIRST (SN5 before SN4), HEAD_FIRST (RC6 before RC5), NO_ROOM (no SN2), NO_LOOK (RE2
 * without the cells), RECEIVED_BY_DEAD (RE2 takes what was received in mid-way for received), PLAIN_RECLAIM
 * (RE3 stores), EARLY_SUCCESSOR (the id is used before RE4). DRAIN: NO_BARRIER (DR2), NO_BUSY (DR3), BLIND (RC5 always a
 * store), SKIP (RC5 by CAS gives up), NO_SECOND_HEAD (DR6), NO_MARK, PLAIN_MARK (DR8), CLEAR_FIRST (DR9 first),
 * RECEIVER_CLEARS (the receiver clears revoked), FORGET (the next daemon clears, and does not mark).
 * REMOVE: NO_LAST_SWEEP (no sweep after the last end is gone). SHOW: SHOWN_AS_IT_IS (no SN3), PLAIN_PRIVATE (SN3 stores).
 * Not refuted, so not needed: NO_RAISE (SN3 leaves the generation), NO_GENERATION (RE2 goes by the index alone).
 */
#ifndef CHANNELS
#define CHANNELS 1
#endif
#ifndef OPS1
#define OPS1 6 /* operations of client 1 and its successors: a get and a send are two */
#endif
#ifndef OPS2
#define OPS2 4
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef DAEMON_DEATHS
#define DAEMON_DEATHS 1
#endif
#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef GENERATIONS
#define GENERATIONS 8
#endif
#ifndef DEPTH
#define DEPTH 3
#endif
#define CELLS 2
#define CLIENTS 2
#define BUFFERS 2

/* Channel c: client c sends, the other one receives. */
#define OUT(l) (l)
#define IN(l) (3 - (l))
#define HAS_OUT(l) (OUT(l) <= CHANNELS)
#define HAS_IN(l) (IN(l) <= CHANNELS)
#define SENDER(c) (c)
#define RECEIVER(c) (3 - (c))

/* Memory. */
#define WORD(i) ((i) - 1)
#define CHANNEL(c) (SLOTS + ((c) - 1) * (4 + CELLS))
#define HEAD(c) (CHANNEL(c))
#define TAIL(c) (CHANNEL(c) + 1)
#define BUSY(c) (CHANNEL(c) + 2)
#define REVOKED(c) (CHANNEL(c) + 3)
#define CELL(c, p) (CHANNEL(c) + 4 + (p) % CELLS)
#define SIZE (SLOTS + CHANNELS * (4 + CELLS))

/* A slot's word: generation * 16 + state. */
#define FREE 0
#define HELD(l) (l)
#define OUTSIDER 3
#define SHOWN(l) (4 + (l))
#define INSIDE(c) (8 + (c))
#define W(g, s) (16 * ((g) % GENERATIONS) + (s))
#define STATE(w) ((w) % 16)
#define GENERATION(w) ((w) / 16)
#define ON(w) (GENERATION(w) + 1)
#define BACK(w) (GENERATION(w) + GENERATIONS - 1)
/* A cell: generation * 4 + index; index 0: nothing to receive here. */
#define MESSAGE(g, i) (4 * ((g) % GENERATIONS) + (i))
#define INDEX(x) ((x) % 4)
#define SENT(x) ((x) / 4)
/* What a published cell of channel c says of its slot, as long as nobody has received it. */
#define STANDS(w, x) (GENERATION(w) == SENT(x) && (STATE(w) == HELD(1) || STATE(w) == HELD(2) || \
                                                   STATE(w) == INSIDE(1) || STATE(w) == INSIDE(2)))

/* `revoked` of a receiver's end. */
#define BY_CAS 1 /* claim each word by compare-and-swap */
#define REMOVED 2

/* Ghosts. */
byte holder[SLOTS + 1]; /* 0: nobody; a client; INSIDE(c): published and not received */
byte number[SLOTS + 1]; /* of the message in it */
byte sent[CHANNELS + 1], next[CHANNELS + 1];
byte ended;
bool kill[CLIENTS + 1], dead[CLIENTS + 1], over[CLIENTS + 1];
bool kill_daemon, at_work;
byte deaths = DEATHS, daemon_deaths = DAEMON_DEATHS;
#ifdef SHOW
byte handle; /* a MESSAGE whose handle was given out */
#endif
#ifdef DRAIN
bool drains = true;
#endif
#ifdef REMOVE
bool removes = true;
#endif

/* A store of a slot's word never hits a slot that is somebody else's. */
inline reached(by, spot_, value_) {
    if
    :: (spot_) < SLOTS ->
       if
       :: STATE(value_) == FREE -> assert(holder[(spot_) + 1] == by); holder[(spot_) + 1] = 0
       :: else -> assert(holder[(spot_) + 1] == by || holder[(spot_) + 1] > 8)
       fi
    :: else
    fi
}

#include "tso.pml"

#define ALL_DRAINED (fill[1] + fill[2] == 0)

/* A get is one step but for its store, C1. Whose the magazine is stands in steal.pml. */
inline get() {
    d_step {
        i = 1;
        do
        :: i <= SLOTS && (holder[i] != 0 || STATE(mem[WORD(i)]) != FREE) -> i++
        :: else -> break
        od;
        if
        :: i <= SLOTS ->
           holder[i] = me;
           mine = MESSAGE(ON(mem[WORD(i)]), i);
           put_store(WORD(i), W(SENT(mine), HELD(me)))
        :: else
        fi;
        i = 0
    }
}

inline put() {
    d_step {
        i = INDEX(mine);
#ifdef SHOW
        if
        :: shown -> /* F1 */
           swap_if(WORD(i), W(SENT(mine), SHOWN(me)), W(SENT(mine), FREE), ok);
           if
           :: ok -> assert(holder[i] == me); holder[i] = 0
           :: else
           fi;
           shown = false;
           ok = false
        :: else -> put_store(WORD(i), W(SENT(mine), FREE)) /* F2 */
        fi;
#else
        put_store(WORD(i), W(SENT(mine), FREE)); /* F2 */
#endif
        mine = 0;
        i = 0
    }
}

#ifdef SHOW
inline give_out() {
    d_step { /* H1 */
        put_store(WORD(INDEX(mine)), W(SENT(mine), SHOWN(me)));
        shown = true;
        handle = mine
    }
}
#endif

/* In a step. */
inline publish() {
    put_store(TAIL(OUT(me)), t + 1);
    holder[INDEX(mine)] = INSIDE(OUT(me));
    sent[OUT(me)]++;
    number[INDEX(mine)] = sent[OUT(me)];
}

inline send() {
    d_step { /* SN1, SN2 */
        view(REVOKED(OUT(me)), x);
        view(HEAD(OUT(me)), h);
        view(TAIL(OUT(me)), t);
        ok = (t - h < CELLS && !(x & REMOVED));
#ifdef NO_ROOM
        ok = true;
#endif
        h = 0;
        x = 0
    }
#if defined(SHOW) && !defined(SHOWN_AS_IT_IS)
    if
    :: ok && shown ->
       d_step { /* SN3 */
#ifdef NO_RAISE
           swap_if(WORD(INDEX(mine)), W(SENT(mine), SHOWN(me)), W(SENT(mine), HELD(me)), ok);
           if
           :: ok
           :: else -> mine = 0
           fi;
#elif defined(PLAIN_PRIVATE)
           put_store(WORD(INDEX(mine)), W(SENT(mine) + 1, HELD(me)));
           mine = MESSAGE(SENT(mine) + 1, INDEX(mine));
#else
           swap_if(WORD(INDEX(mine)), W(SENT(mine), SHOWN(me)), W(SENT(mine) + 1, HELD(me)), ok);
           if
           :: ok -> mine = MESSAGE(SENT(mine) + 1, INDEX(mine))
           :: else -> mine = 0
           fi;
#endif
           shown = false
       }
    :: else
    fi;
#endif
    if
    :: ok ->
#ifdef TAIL_FIRST
       d_step { publish() }
       store(CELL(OUT(me), t), mine);
#else
       store(CELL(OUT(me), t), mine); /* SN4 */
       d_step { publish() }           /* SN5 */
#endif
       d_step { mine = 0; t = 0; ok = false }
    :: else
    fi;
    t = 0
}

/* In a step: it is received. */
inline received() {
    if
    :: ok ->
       assert(holder[INDEX(mine)] == INSIDE(IN(me)));
       holder[INDEX(mine)] = me;
#if defined(DRAIN) || defined(REMOVE)
       assert(number[INDEX(mine)] >= next[IN(me)]);
#else
       assert(number[INDEX(mine)] == next[IN(me)]);
#endif
       next[IN(me)] = number[INDEX(mine)] + 1;
       number[INDEX(mine)] = 0;
       mine = MESSAGE(SENT(mine) + 1, INDEX(mine))
    :: else -> mine = 0
    fi
}

inline move_head() {
    d_step {
        put_store(HEAD(IN(me)), h + 1);
        received()
    }
}

inline receive() {
#if defined(DRAIN) || defined(REMOVE)
    store(BUSY(IN(me)), 1);      /* RC1 */
    load(REVOKED(IN(me)), x);    /* RC2 */
#ifdef RECEIVER_CLEARS
    if
    :: x == BY_CAS -> d_step { put_store(REVOKED(IN(me)), 0); drain_all(me) }
    :: else
    fi;
#endif
#endif
    if
    :: x & REMOVED
    :: else ->
       d_step { /* RC3, RC4 */
           view(HEAD(IN(me)), h);
           view(TAIL(IN(me)), t);
           ok = (h != t);
           if
           :: ok -> view(CELL(IN(me), h), mine)
           :: else
           fi;
           t = 0
       }
       if
       :: ok ->
          ok = (INDEX(mine) != 0);
#ifdef HEAD_FIRST
          move_head();
          if
          :: mine != 0 -> store(WORD(INDEX(mine)), W(SENT(mine), HELD(me)))
          :: else
          fi;
#else
          if
#ifdef BLIND
          :: ok -> store(WORD(INDEX(mine)), W(SENT(mine) + 1, HELD(me)))
#else
          :: ok && x == 0 -> store(WORD(INDEX(mine)), W(SENT(mine) + 1, HELD(me))) /* RC5 */
          :: ok && x != 0 ->
             do
             :: d_step { view(WORD(INDEX(mine)), w); ok = STANDS(w, mine) }
                if
                :: ok -> cas(WORD(INDEX(mine)), w, W(SENT(mine) + 1, HELD(me)), ok) /* RC5 */
#ifdef SKIP
                   ; break
#endif
                :: else -> break
                fi;
                if
                :: ok -> break
                :: else
                fi
             od;
             w = 0
#endif
          :: !ok
          fi;
          move_head(); /* RC6 */
#endif
          d_step { h = 0; ok = false }
       :: else -> h = 0
       fi
    fi;
    x = 0;
#if defined(DRAIN) || defined(REMOVE)
    store(BUSY(IN(me)), 0) /* RC7 */
#endif
}

#define SEEMS_EMPTY(c) (mem[HEAD(c)] == mem[TAIL(c)])
#ifdef NO_ROOM
#define SEEMS_FULL(c) false
#else
#define SEEMS_FULL(c) (mem[TAIL(c)] - mem[HEAD(c)] >= CELLS)
#endif
#ifdef EAGER
#define MAY_RECEIVE HAS_IN(me) /* in an empty channel too, whose message may come when it is busy */
#else
#define MAY_RECEIVE (HAS_IN(me) && !SEEMS_EMPTY(IN(me)))
#endif

/* It waits for room and for messages, since a try that finds none changes nothing. */
inline operations() {
    do
    :: ops > 0 && mine == 0 && HAS_OUT(me) && !SEEMS_FULL(OUT(me)) -> ops--; get()
    :: ops > 0 && mine == 0 && MAY_RECEIVE -> ops--; receive()
    :: ops > 0 && mine != 0 && HAS_OUT(me) && !SEEMS_FULL(OUT(me)) -> ops--; send()
    :: ops > 0 && mine != 0 && HAS_IN(me) -> ops--; put()
#ifdef SHOW
    :: ops > 0 && mine != 0 && me == 1 && !shown -> ops--; give_out()
#endif
    :: ops == 0 || over[3 - me] -> break
    od
}

proctype client(byte me) {
    byte ops = (me == 1 -> OPS1 : OPS2);
    byte mine; /* the slot it has, as a MESSAGE with its word's generation */
    byte h, t, i, w, x;
    bool ok, shown;
again:
    { operations() } unless { kill[me] }
    if
    :: kill[me] ->
       d_step { mine = 0; h = 0; t = 0; i = 0; w = 0; x = 0; ok = false; shown = false; kill[me] = false; dead[me] = true }
#ifndef EARLY_SUCCESSOR
       !dead[me]; /* a successor, once the reclaim is over */
#endif
       goto again
    :: else
    fi;
    d_step { /* it closes its ends, or exits */
        drain_all(me);
        if
        :: kill[me]
        :: else -> over[me] = true
        fi
    }
    if
    :: over[me]
    :: else -> goto again
    fi;
    ended++
}

#ifdef SHOW
/* Whoever was given the handle: it adopts the slot, and returns it. */
proctype outsider() {
    byte i, w;
    bool ok;
    handle != 0 || over[1];
    d_step { i = INDEX(handle); w = W(SENT(handle), SHOWN(1)) } /* A0 */
    d_step { /* A1 */
        ok = (i != 0);
        if
        :: ok -> ok = (mem[WORD(i)] == w)
        :: else
        fi;
        if
        :: ok -> assert(holder[i] == 1); mem[WORD(i)] = W(ON(w), HELD(OUTSIDER)); holder[i] = OUTSIDER
        :: else
        fi
    }
    if
    :: ok -> d_step { assert(mem[WORD(i)] == W(ON(w), HELD(OUTSIDER))); mem[WORD(i)] = W(ON(w), FREE); holder[i] = 0 }
    :: else
    fi;
    skip;
    ended++
}
#define ALL_ENDED (ended == CLIENTS + 1)
#else
#define ALL_ENDED (ended == CLIENTS)
#endif

proctype killer() {
end:
    do
    :: d_step { deaths > 0 && !kill[1] && !dead[1] && !over[1] -> deaths--; kill[1] = true; drain_all(1) }
    :: d_step { deaths > 0 && !kill[2] && !dead[2] && !over[2] -> deaths--; kill[2] = true; drain_all(2) }
    :: d_step { daemon_deaths > 0 && at_work -> daemon_deaths--; kill_daemon = true }
    od
}

/* In a step: whether the cells of channel c from `from` to `to` have slot i with generation `g_`; p: where. */
inline look_for(g_, from, to, c_) {
    p = from;
    do
    :: p < to ->
#ifdef NO_GENERATION
       if
       :: INDEX(mem[CELL(c_, p)]) == i -> break
#else
       if
       :: mem[CELL(c_, p)] == MESSAGE(g_, i) -> break
#endif
       :: else -> p++
       fi
    :: else -> break
    od
}

/* In a step: whether channel c has slot i, whose word w says HELD(l): as sent, or as received in mid-way. */
inline look_in(c_, from_, to_) {
    if
    :: l == SENDER(c_) ->
       look_for(GENERATION(w), from_, to_, c_);
       if
       :: p < to_ -> x = W(GENERATION(w), INSIDE(c_))
       :: else
       fi
    :: else ->
#ifndef RECEIVED_BY_DEAD
       look_for(BACK(w), from_, to_, c_);
       if
       :: p < to_ -> x = W(BACK(w), INSIDE(c_))
       :: else
       fi
#else
       skip
#endif
    fi
}

/* Takes back what the dead client l had. x: what its word becomes. */
inline reclaim() {
    d_step { h1 = mem[HEAD(1)]; t1 = mem[TAIL(1)] } /* RE1 */
#if CHANNELS > 1
    d_step { h2 = mem[HEAD(2)]; t2 = mem[TAIL(2)] }
#endif
    i = 1;
    do
    :: i <= SLOTS ->
       d_step { /* RE2: the next word of l's. It writes none any more, so this may be as early as it likes. */
           do
           :: i <= SLOTS && STATE(mem[WORD(i)]) != HELD(l) && STATE(mem[WORD(i)]) != SHOWN(l) -> i++
           :: else -> break
           od;
           if
           :: i <= SLOTS ->
              w = mem[WORD(i)];
              x = W(ON(w), FREE);
#ifndef NO_LOOK
              if
              :: STATE(w) == HELD(l) ->
                 look_in(1, h1, t1)
#if CHANNELS > 1
                 ;
                 look_in(2, h2, t2)
#endif
              :: else
              fi;
#endif
              p = 0
           :: else
           fi
       }
       if
       :: i <= SLOTS ->
          d_step { /* RE3 */
#ifdef PLAIN_RECLAIM
              mem[WORD(i)] = x;
              ok = true;
#else
              swap_if(WORD(i), w, x, ok);
#endif
              if
              :: ok && STATE(x) == FREE -> assert(holder[i] == l); holder[i] = 0
              :: else
              fi;
              w = 0;
              x = 0;
              ok = false;
              i++
          }
       :: else
       fi
    :: else -> break
    od;
    skip;
    d_step { /* RE4 */
        if
        :: HAS_IN(l) -> mem[BUSY(IN(l))] = 0
        :: else
        fi;
        i = 0; h1 = 0; t1 = 0; h2 = 0; t2 = 0; l = 0
    }
}

#define RECLAIM(who) d_step { dead[who] -> l = who; at_work = true }; reclaim(); d_step { dead[who] = false; at_work = false }

#if defined(DRAIN) || defined(REMOVE)
/* The cells of channel 1 from p to t1: frees what was sent (only_marks: not), and marks the cells. */
inline drain_cells(only_marks) {
    do
    :: p < t1 ->
       d_step { x = mem[CELL(1, p)]; i = INDEX(x); ok = false } /* DR5 */
#ifndef NO_SECOND_HEAD
       if
       :: i != 0 && mem[HEAD(1)] > p -> i = 0 /* DR6: received meanwhile, and the cell is the sender's again */
       :: else
       fi;
#endif
       do
       :: i != 0 ->
          d_step { w = mem[WORD(i)]; ok = STANDS(w, x) } /* DR7 */
          if
          :: ok && !only_marks ->
             d_step {
                 swap_if(WORD(i), w, W(ON(w), FREE), ok);
                 if
                 :: ok -> assert(holder[i] == INSIDE(1)); holder[i] = 0; number[i] = 0
                 :: else
                 fi
             }
             if
             :: ok -> break
             :: else
             fi
          :: ok && only_marks -> ok = false; break
          :: else -> ok = (w != W(SENT(x) + 1, HELD(RECEIVER(1)))); break
          fi
       :: i == 0 -> break
       od;
       skip;
#ifndef NO_MARK
       if
       :: ok -> /* DR8 */
#ifdef PLAIN_MARK
          d_step { mem[CELL(1, p)] = 0 }
#else
          d_step { swap_if(CELL(1, p), x, 0, ok) }
#endif
       :: else
       fi;
#endif
       d_step { i = 0; w = 0; x = 0; ok = false; p++ }
    :: else -> break
    od;
    skip;
    d_step { p = 0; t1 = 0 }
}

inline sweep(why) {
    d_step { mem[REVOKED(1)] = mem[REVOKED(1)] | why } /* DR1 */
#ifdef CLEAR_FIRST
    mem[REVOKED(1)] = mem[REVOKED(1)] & ~BY_CAS;
#endif
#ifndef NO_BARRIER
    membarrier(x); /* DR2 */
#endif
#ifdef NO_BUSY
    p = 0;
#else
    p = mem[BUSY(1)]; /* DR3 */
#endif
    p = p + mem[HEAD(1)]; /* DR4 */
    t1 = mem[TAIL(1)];
    drain_cells(false)
}
#endif

inline work() {
    do
    :: RECLAIM(1)
    :: RECLAIM(2)
#ifdef DRAIN
    :: d_step { drains && over[1] + over[2] < 2 -> drains = false; at_work = true }
       sweep(BY_CAS);
       mem[REVOKED(1)] = mem[REVOKED(1)] & ~BY_CAS; /* DR9 */
       at_work = false
#endif
#ifdef REMOVE
    :: d_step { removes -> removes = false; at_work = true }
       sweep(REMOVED);
       at_work = false
#endif
    :: ALL_ENDED && !dead[1] && !dead[2] -> break
    od
}

proctype daemon(byte me) {
    byte l, i, w, x, p, h1, t1, h2, t2;
    bool ok;
    { work() } unless { kill_daemon }
    if
    :: kill_daemon ->
       d_step { l = 0; i = 0; w = 0; x = 0; p = 0; h1 = 0; t1 = 0; h2 = 0; t2 = 0; ok = false; kill_daemon = false; at_work = false }
#ifdef DRAIN
       /* The next one: a drain that was cut off. */
       if
       :: mem[REVOKED(1)] & BY_CAS ->
#ifndef FORGET
          d_step { p = mem[HEAD(1)]; t1 = mem[TAIL(1)] }
          drain_cells(true);
#endif
          mem[REVOKED(1)] = mem[REVOKED(1)] & ~BY_CAS
       :: else
       fi;
#endif
       work()
    :: else
    fi;
#if defined(REMOVE) && !defined(NO_LAST_SWEEP)
    if
    :: mem[REVOKED(1)] & REMOVED -> sweep(REMOVED)
    :: else
    fi;
#endif
    skip;
    d_step { /* all is where it should be */
        i = 1;
        do
        :: i <= SLOTS ->
           w = mem[WORD(i)];
           if
           :: STATE(w) == FREE -> assert(holder[i] == 0)
           :: holder[i] > 0 && holder[i] < 4 -> assert(STATE(w) == HELD(holder[i]) || STATE(w) == SHOWN(holder[i]))
           :: else ->
              l = holder[i] - 8; /* which channel */
              assert(holder[i] > 8);
              assert(STATE(w) == INSIDE(l) || STATE(w) == HELD(SENDER(l)));
#ifdef REMOVE
              assert(!(mem[REVOKED(1)] & REMOVED));
#endif
              look_for(GENERATION(w), mem[HEAD(l)], mem[TAIL(l)], l);
              assert(p < mem[TAIL(l)]);
#if !defined(DRAIN) && !defined(REMOVE)
              assert(number[i] == next[l] + p - mem[HEAD(l)]);
#endif
              x++
           fi;
           i++
        :: else -> break
        od;
        /* Each published cell that is not marked has such a slot. */
        l = 1;
        do
        :: l <= CHANNELS ->
           p = mem[HEAD(l)];
           do
           :: p < mem[TAIL(l)] ->
              if
              :: mem[CELL(l, p)] != 0 -> x--
              :: else
              fi;
              p++
           :: else -> break
           od;
           l++
        :: else -> break
        od;
        assert(x == 0)
    }
}

init {
    d_step {
        mem[WORD(1)] = W(GENERATIONS - 1, FREE);
        mem[WORD(2)] = W(GENERATIONS - 2, FREE);
#if SLOTS > 2
        mem[WORD(3)] = W(0, FREE);
#endif
        next[1] = 1;
#if CHANNELS > 1
        next[2] = 1;
#endif
        skip
    }
    atomic {
        run client(1);
        run client(2);
        run drain(1);
        run drain(2);
#ifdef SHOW
        run outsider();
#endif
        run daemon(0);
        run killer()
    }
}
