/* A queue channel of form `many`: several senders and receivers. See README.md, "Channels".
 *
 * The ring is the depot's (depot.pml): cells of lap and index, changed by CAS, positions that only hint. Beside
 * each slot's word stands its message record. Two cells, three slots; all senders together send MESSAGES.
 * Senders' plain stores linger in a store buffer. Clients die between any two steps and have successors of
 * the same id; the daemon dies in mid-reclaim. Generations wrap, not within a window.
 *
 *   SM1 load tail   SM2 load its cell: empty, of this lap?   SM3 store the record's position
 *   SM4 store its generation       SM5 CAS the cell: published     SM6 move tail on
 *   again from SM1 if SM5 fails
 *   RM1 load head   RM2 load its cell   RM3 load the record's generation   RM4 load its position: head's?
 *   RM5 load the word: not received, of that generation?   RM6 CAS the word to HELD(r), one generation on;
 *   fails: again from RM1      RM7 CAS the cell to empty, of the next lap: claimed by us or by another  RM8 move head on
 *   RE1 load the dead one's words and records   RE2 the cell of the record's position names it? RE3 CAS: if so to
 *   INSIDE, else to FREE, one generation on
 *
 * With DROP_OLDEST a sender that finds no room receives the oldest (RM1 to RM8) and returns it.
 *
 * Asserted, by variables no client reads:
 *   twice       a word that is claimed was published and not received; each position once, in order
 *   lost        in the end all that was published was received, and every slot is free
 *   overwritten a plain store of a word reaches it while the slot is its own
 *
 * Configurations: all four clients without deaths; two senders who die; two receivers, one of whom dies, and
 * a sender who may; one of each, who die twice; two senders who drop. Who sends meets other senders at SM5 and
 * receivers at RM4 to RM6, and a death adds only the reclaim, which meets receivers at RM6: so three
 * clients have all pairs. All at once is the slow run (README.md).
 *
 * Broken on purpose: NO_LAP (SM5), RECORD_FIRST (SM3 before SM2), LATE_RECORD (SM3, SM4 after SM5), GENERATION_FIRST (SM4
 * before SM3), POSITION_FIRST (RM4 before RM3), NO_POSITION (RM4), NO_GENERATION (RM5), PLAIN_CLAIM (RM6),
 * REMOVE_FIRST (RM7 before RM6), REMOVE_ON_FAILURE (RM7 although RM6 failed), NO_LOOK (RE2), NO_CELL (RE2 goes by the record),
 * NO_RECORD_CHECK (RE2 without the record's generation), PLAIN_RECLAIM (RE3).
 */
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 3 /* sent by all senders together; sends cut off by a death count */
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef DAEMON_DEATHS
#define DAEMON_DEATHS 1
#endif
#ifndef MORTAL
#define MORTAL 10 /* bit l: client l may die; one of each side, since the two of a side are alike */
#endif
#ifndef GENERATIONS
#define GENERATIONS 8
#endif
#ifndef DEPTH
#define DEPTH 2
#endif
#define SLOTS 3
#define CELLS 2
#define CLIENTS (SENDERS + RECEIVERS)
#define BUFFERS SENDERS /* a receiver's only plain store is its put: steal.pml, shown.pml */

/* Memory that is stored to: the slots' words and their message records. */
#define WORD(i) ((i) - 1)
#define RECORD_GENERATION(i) (SLOTS + 2 * (i) - 2)
#define RECORD_POSITION(i) (SLOTS + 2 * (i) - 1)
#define SIZE (3 * SLOTS)
/* The ring, which is only changed by compare-and-swap. */
byte cell_lap[CELLS], cell_slot[CELLS];
byte head, tail;

/* A slot's word: generation * 16 + state. */
#define FREE 0
#define HELD(l) (l)
#define INSIDE 8
#define W(g, s) (16 * ((g) % GENERATIONS) + (s))
#define STATE(w) ((w) % 16)
#define GENERATION(w) ((w) / 16)
#define ON(w) (GENERATION(w) + 1)
#define NOT_RECEIVED(w) (STATE(w) != FREE)

/* Ghosts. */
byte holder[SLOTS + 1]; /* 0: nobody; a client; INSIDE: published and not received */
byte published, next;   /* positions: how many messages were published; which is received next */
byte left = MESSAGES;
byte ended;
byte senders_over;
bool kill[CLIENTS + 1], dead[CLIENTS + 1], over[CLIENTS + 1];
bool kill_daemon, at_work;
byte deaths = DEATHS, daemon_deaths = DAEMON_DEATHS;

inline reached(by, spot_, value_) {
    if
    :: (spot_) < SLOTS ->
       assert(holder[(spot_) + 1] == by);
       if
       :: STATE(value_) == FREE -> holder[(spot_) + 1] = 0
       :: else
       fi
    :: else
    fi
}

#include "tso.pml"

/* Moves a position on by the one step that was seen done. */
inline help(position, from) {
    d_step {
        if
        :: position == from -> drain_all(me); position = from + 1
        :: else
        fi
    }
}

inline get() {
    d_step { /* C1 */
        i = 1;
        do
        :: i <= SLOTS && (holder[i] != 0 || STATE(mem[WORD(i)]) != FREE) -> i++
        :: else -> break
        od;
        if
        :: i <= SLOTS ->
           holder[i] = me;
           g = (ON(mem[WORD(i)])) % GENERATIONS;
           mine = i;
           put_store(WORD(i), W(g, HELD(me)))
        :: else
        fi;
        i = 0
    }
}

/* ok: sent; else the channel is full. */
inline send() {
    do
    ::
#ifdef RECORD_FIRST
       d_step { at = tail; put_store(RECORD_POSITION(mine), at) }
       store(RECORD_GENERATION(mine), g);
#endif
       d_step { at = tail; lap = cell_lap[at % CELLS]; i = cell_slot[at % CELLS] } /* SM1, SM2 */
       if
       :: lap == at / CELLS && i == 0 ->
#ifdef GENERATION_FIRST
          store(RECORD_GENERATION(mine), g);
          store(RECORD_POSITION(mine), at);
#elif !defined(RECORD_FIRST) && !defined(LATE_RECORD)
          store(RECORD_POSITION(mine), at);  /* SM3 */
          store(RECORD_GENERATION(mine), g); /* SM4 */
#endif
          d_step { /* SM5 */
              drain_all(me);
#ifdef NO_LAP
              ok = (cell_slot[at % CELLS] == 0);
#else
              ok = (cell_lap[at % CELLS] == lap && cell_slot[at % CELLS] == 0);
#endif
              if
              :: ok ->
                 cell_slot[at % CELLS] = mine;
                 holder[mine] = INSIDE;
                 assert(at == published);
                 published++
              :: else
              fi
          }
#ifdef LATE_RECORD
          if
          :: ok ->
             store(RECORD_POSITION(mine), at);
             store(RECORD_GENERATION(mine), g)
          :: else
          fi;
#endif
          if
          :: ok -> help(tail, at); break /* SM6 */
          :: else
          fi
       :: (lap == at / CELLS && i != 0) || lap == at / CELLS + 1 -> help(tail, at)
       :: else ->
          d_step { ok = (tail == at) }
          if
          :: ok -> ok = false; break
          :: else
          fi
       fi
    od;
    skip;
    d_step {
        at = 0; lap = 0; i = 0;
        if
        :: ok -> mine = 0; g = 0; ok = false
        :: else
        fi
    }
}

/* In a step: the word of slot i, which the cell of position `at` names, says HELD(me) from now on. */
inline claimed() {
    assert(holder[i] == INSIDE);
    assert(at == next);
    holder[i] = me;
    next++;
    got = i
}

inline remove_cell() {
    d_step { /* RM7 */
        if
        :: cell_lap[at % CELLS] == lap && cell_slot[at % CELLS] == i ->
           drain_all(me);
           cell_lap[at % CELLS] = lap + 1;
           cell_slot[at % CELLS] = 0
        :: else
        fi
    }
    help(head, at) /* RM8 */
}

/* got: the slot that was received, one generation on (h); 0: there is none. */
inline receive() {
    do
    :: d_step { at = head; lap = cell_lap[at % CELLS]; i = cell_slot[at % CELLS] } /* RM1, RM2 */
       if
       :: lap == at / CELLS && i == 0 -> break
       :: lap == at / CELLS && i != 0 ->
#ifdef REMOVE_FIRST
          remove_cell();
#endif
#ifdef POSITION_FIRST
          d_step { view(RECORD_POSITION(i), x); ok = (x == at) }
          d_step { view(RECORD_GENERATION(i), h); x = 0 }
#else
          load(RECORD_GENERATION(i), h); /* RM3 */
          d_step {                       /* RM4 */
              view(RECORD_POSITION(i), x);
#ifdef NO_POSITION
              ok = true;
#else
              ok = (x == at);
#endif
              x = 0;
              again = false
          }
#endif
          if
          :: ok ->
             d_step { /* RM5 */
                 view(WORD(i), x);
#ifdef NO_GENERATION
                 ok = NOT_RECEIVED(x);
                 h = GENERATION(x);
#else
                 ok = (NOT_RECEIVED(x) && GENERATION(x) == h);
#endif
             }
             if
             :: ok ->
#ifdef PLAIN_CLAIM
                d_step { drain_all(me); mem[WORD(i)] = W(h + 1, HELD(me)); claimed() }
#else
                d_step { /* RM6 */
                    swap_if(WORD(i), x, W(h + 1, HELD(me)), ok);
                    if
                    :: ok -> claimed()
                    :: else -> again = true /* the reclaim or another was faster */
                    fi
                }
#endif
             :: else
             fi
          :: else
          fi;
#ifdef REMOVE_ON_FAILURE
          again = false;
#endif
#ifndef REMOVE_FIRST
          if
          :: !again -> remove_cell()
          :: else
          fi;
#endif
          if
          :: got != 0 -> break
          :: else
          fi
       :: lap == at / CELLS + 1 -> help(head, at)
       :: else ->
          d_step { ok = (head == at) }
          if
          :: ok -> break
          :: else
          fi
       fi
    od;
    skip;
    d_step { at = 0; lap = 0; i = 0; x = 0; ok = false; again = false }
}

/* In a step: F2, of what was received. */
inline put_received() {
    if
    :: got != 0 -> put_store(WORD(got), W(h + 1, FREE))
    :: else
    fi;
    got = 0;
    h = 0
}

#define NOTHING (cell_slot[0] + cell_slot[1] == 0)
#define FULL (cell_slot[0] != 0 && cell_slot[1] != 0)

inline sender() {
    do
    :: d_step { left > 0 && mine == 0 -> left-- } get()
#ifdef DROP_OLDEST
    :: mine != 0 ->
       send();
       if
       :: mine != 0 -> /* it is full: receives the oldest, and returns it */
          receive();
          d_step { put_received() }
       :: else
       fi
#else
    :: mine != 0 && !FULL -> send()
#endif
    :: left == 0 && mine == 0 -> break
    od
}

inline receiver() {
    do
    :: !NOTHING ->
       receive();
       d_step { put_received() }
    :: NOTHING && senders_over == SENDERS -> break
    od
}

#define LOCALS byte mine, g, got, h, at, lap, i, x; bool ok, again
#define FORGET d_step { mine = 0; g = 0; got = 0; h = 0; at = 0; lap = 0; i = 0; x = 0; ok = false; again = false; kill[me] = false; dead[me] = true }

/* A client that dies has a successor of its id, once the reclaim is over. */
#define LIFE(does, done) \
once_more: \
    { does() } unless { kill[me] } \
    if \
    :: kill[me] -> FORGET; !dead[me]; goto once_more \
    :: else \
    fi; \
    d_step { \
        drain_all(me); \
        if \
        :: kill[me] \
        :: else -> over[me] = true; done; ended++ \
        fi \
    } \
    if \
    :: over[me] \
    :: else -> goto once_more \
    fi

proctype sending(byte me) { LOCALS; LIFE(sender, senders_over++) }
proctype receiving(byte me) { LOCALS; LIFE(receiver, skip) }

#define MAY_DIE(l) (deaths > 0 && (MORTAL & (1 << (l))) && !kill[l] && !dead[l] && !over[l])

proctype killer() {
end:
    do
    :: d_step { MAY_DIE(1) -> deaths--; kill[1] = true; drain_all(1) }
    :: d_step { MAY_DIE(2) -> deaths--; kill[2] = true; drain_all(2) }
#if CLIENTS > 2
    :: d_step { MAY_DIE(3) -> deaths--; kill[3] = true; drain_all(3) }
#endif
#if CLIENTS > 3
    :: d_step { MAY_DIE(4) -> deaths--; kill[4] = true; drain_all(4) }
#endif
    :: d_step { daemon_deaths > 0 && at_work -> daemon_deaths--; kill_daemon = true }
    od
}

/* Takes back what the dead client l had. */
inline reclaim() {
    i = 1;
    do
    :: i <= SLOTS ->
       d_step { /* RE1: the next word of l's, and its record, which only its holder writes */
           do
           :: i <= SLOTS && STATE(mem[WORD(i)]) != HELD(l) -> i++
           :: else -> break
           od;
           if
           :: i <= SLOTS ->
              w = mem[WORD(i)];
              p = mem[RECORD_POSITION(i)];
              ok = (mem[RECORD_GENERATION(i)] == GENERATION(w))
#ifdef NO_RECORD_CHECK
              ; ok = true
#endif
           :: else
           fi
       }
       if
       :: i <= SLOTS ->
          d_step { /* RE2 */
#ifdef NO_LOOK
              ok = false;
#endif
#ifdef NO_CELL
              skip
#else
              ok = ok && cell_slot[p % CELLS] == i && cell_lap[p % CELLS] == p / CELLS
#endif
          }
          d_step { /* RE3 */
              x = (ok -> W(GENERATION(w), INSIDE) : W(ON(w), FREE));
#ifdef PLAIN_RECLAIM
              mem[WORD(i)] = x;
              ok = true;
#else
              swap_if(WORD(i), w, x, ok);
#endif
              if
              :: ok && STATE(x) == FREE -> assert(holder[i] == l); holder[i] = 0
              :: ok && STATE(x) != FREE -> assert(holder[i] == INSIDE)
              :: else
              fi;
              w = 0; x = 0; p = 0; ok = false; i++
          }
       :: else
       fi
    :: else -> break
    od;
    skip;
    d_step { dead[l] = false; at_work = false; i = 0; l = 0 }
}

inline work() {
    do
    :: d_step { dead[1] -> l = 1; at_work = true }; reclaim()
    :: d_step { dead[2] -> l = 2; at_work = true }; reclaim()
#if CLIENTS > 2
    :: d_step { dead[3] -> l = 3; at_work = true }; reclaim()
#endif
#if CLIENTS > 3
    :: d_step { dead[4] -> l = 4; at_work = true }; reclaim()
#endif
    :: ended == CLIENTS -> break
    od
}

proctype daemon(byte me) {
    byte l, i, w, x, p;
    bool ok;
    { work() } unless { kill_daemon }
    if
    :: kill_daemon ->
       d_step { l = 0; i = 0; w = 0; x = 0; p = 0; ok = false; kill_daemon = false; at_work = false }
       work() /* the next one */
    :: else
    fi;
    skip;
    d_step { /* all was received, and every slot is free */
        assert(next == published); /* a cell that is left is one that a dead receiver claimed */
        i = 1;
        do
        :: i <= SLOTS -> assert(holder[i] == 0 && STATE(mem[WORD(i)]) == FREE); i++
        :: else -> break
        od
    }
}

init {
    byte l;
    d_step {
        mem[WORD(1)] = W(GENERATIONS - 1, FREE);
        mem[WORD(2)] = W(GENERATIONS - 2, FREE);
        mem[WORD(3)] = W(0, FREE)
    }
    atomic {
        l = 1;
        do
        :: l <= CLIENTS ->
           if
           :: l <= SENDERS -> run sending(l)
           :: else -> run receiving(l)
           fi;
           if
           :: l <= BUFFERS -> run drain(l)
           :: else
           fi;
           l++
        :: else -> l = 0; break
        od;
        run daemon(0);
        run killer()
    }
}
