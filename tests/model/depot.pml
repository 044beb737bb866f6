/* The depot's ring, step by step: push, claim-first-remove-second, give, and what a death between
 * any two steps leaves for reclaim and rehint. See docs/concurrency.md for the labels.
 *
 * Two clients take a magazine out of the ring and give it back, one of them twice. The other may be
 * killed between any two steps, and so may the daemon while it reclaims; a new one starts over.
 * Asserted: a magazine never has two owners (I4); while nobody dies, every magazine in the depot
 * has a hint; after the last reclaim and rehint every magazine can be claimed, once (I5).
 *
 * Every step that shared memory sees as one is one d_step. Cells: 4, at least twice the magazines.
 */
#define MAGAZINES 2
#define CELLS 4
#define CLIENTS 2
#define DAEMON 3 /* as an owner; lanes of clients are 1 and 2 */
#define CHECKER 4

#define FULL 0
#define OWNED 1

byte cell_lap[CELLS], cell_magazine[CELLS];
byte head, tail;
byte state[MAGAZINES + 1], version[MAGAZINES + 1], lane[MAGAZINES + 1];
byte owner[MAGAZINES + 1]; /* ghost: who works with it */
bool kill[CLIENTS + 1], gone[CLIENTS + 1];
bool kill_daemon, somebody_died, overflowed;
byte restarts;

/* Tries to move a position on by the one step that was seen done. */
inline help(position, from) {
    d_step {
        if
        :: position == from -> position = from + 1
        :: else
        fi
    }
}

inline push(m) {
    do
    :: d_step { at = tail }
       d_step { seen_lap = cell_lap[at % CELLS]; seen = cell_magazine[at % CELLS] } /* P0 */
       if
       :: seen_lap == at / CELLS && seen == 0 ->
          d_step { /* P1 */
              done = cell_lap[at % CELLS] == seen_lap && cell_magazine[at % CELLS] == 0;
              if
              :: done -> cell_magazine[at % CELLS] = m
              :: else
              fi
          }
          if
          :: done -> help(tail, at); break
          :: else
          fi
       :: (seen_lap == at / CELLS && seen != 0) || seen_lap == at / CELLS + 1 -> help(tail, at)
       :: else ->
          d_step { done = (tail == at) }
          if
          :: done -> overflowed = true; break /* full: the hint is missing until a rehint */
          :: else
          fi
       fi
    od;
    skip; /* a break must not lead into a d_step */
    d_step { at = 0; seen_lap = 0; seen = 0; done = 0 }
}

/* Pops hints until one can be claimed for lane `me`; got = 0: the ring is empty. */
inline claim(me) {
    got = 0;
    do
    :: d_step { at = head }
       d_step { seen_lap = cell_lap[at % CELLS]; seen = cell_magazine[at % CELLS] } /* Q0 */
       if
       :: seen_lap == at / CELLS && seen == 0 -> break
       :: seen_lap == at / CELLS && seen != 0 ->
          d_step { saw = version[seen]; done = (state[seen] == FULL) }
          if
          :: done ->
             d_step { /* T1 */
                 done = state[seen] == FULL && version[seen] == saw;
                 if
                 :: done ->
                    assert(owner[seen] == 0);
                    state[seen] = OWNED; lane[seen] = me; version[seen]++; owner[seen] = me
                 :: else
                 fi
             }
          :: else
          fi;
          d_step { /* Q1 */
              if
              :: cell_lap[at % CELLS] == seen_lap && cell_magazine[at % CELLS] == seen ->
                 cell_lap[at % CELLS] = seen_lap + 1; cell_magazine[at % CELLS] = 0
              :: else
              fi
          }
          help(head, at);
          if
          :: done -> got = seen; break
          :: else
          fi
       :: seen_lap == at / CELLS + 1 -> help(head, at)
       :: else ->
          d_step { done = (head == at) }
          if
          :: done -> break
          :: else
          fi
       fi
    od;
    skip;
    d_step { at = 0; seen_lap = 0; seen = 0; saw = 0; done = 0 }
}

inline give(m) {
    d_step { /* G1 */
        assert(state[m] == OWNED);
        owner[m] = 0; state[m] = FULL; lane[m] = 0; version[m]++
    }
    push(m)
}

proctype client(byte me) {
    byte at, seen_lap, seen, saw, got, turn;
    bool done;
    {
        do
        :: turn < me -> /* the one that may be killed takes one turn, the other two */
           claim(me);
           if
           :: got != 0 -> give(got)
           :: else
           fi;
           got = 0;
           turn++
        :: else -> break
        od
    } unless {
        kill[me]
    }
    gone[me] = true
}

/* Takes back what dead lanes own, the daemon's own of a former life too; then rehints. */
inline reclaim_all() {
    m = 1;
    do
    :: m <= MAGAZINES ->
       d_step { /* R0 */
           saw = version[m];
           done = state[m] == OWNED && (lane[m] == DAEMON || (gone[lane[m]] && kill[lane[m]]))
       }
       if
       :: done ->
          d_step {
              done = version[m] == saw;
              if
              :: done -> lane[m] = DAEMON; version[m]++; owner[m] = DAEMON
              :: else
              fi
          }
          if
          :: done -> give(m)
          :: else
          fi
       :: else
       fi;
       m++
    :: else -> break
    od;
    /* One cell at a time, beside the living. */
    hinted = 0;
    k = 0;
    do
    :: k < CELLS ->
       d_step {
           if
           :: cell_magazine[k] != 0 -> hinted = hinted | (1 << cell_magazine[k])
           :: else
           fi;
           k++
       }
    :: else -> break
    od;
    m = 1;
    do
    :: m <= MAGAZINES ->
       d_step { done = state[m] == FULL && !(hinted & (1 << m)) }
       if
       :: done -> push(m)
       :: else
       fi;
       m++
    :: else -> break
    od
}

proctype daemon() {
    byte at, seen_lap, seen, saw, m, k, hinted;
    bool done;
    {
        (kill[1] && gone[1]) || (gone[1] && gone[2]);
        reclaim_all()
    } unless {
        kill_daemon
    }
    if
    :: kill_daemon ->
       d_step { at = 0; seen_lap = 0; seen = 0; saw = 0; m = 0; k = 0; hinted = 0; done = 0 }
       reclaim_all() /* the next one, which is not killed */
    :: else
    fi;
    /* All have ended. Nobody has died, or all that was missing has been mended. */
    gone[1] && gone[2];
    if
    :: somebody_died || overflowed -> reclaim_all()
    :: else
    fi;
    run checker()
}

proctype checker() {
    byte at, seen_lap, seen, saw, got, count;
    bool done;
    do
    :: claim(CHECKER);
       if
       :: got != 0 -> count++
       :: else -> break
       fi
    od;
    assert(count == MAGAZINES)
}

/* Kills client 1, the daemon, both or none, whenever it likes. */
proctype killer() {
    if
    :: d_step { !gone[1] -> kill[1] = true; somebody_died = true }
    :: true
    fi;
    if
    :: d_step { kill_daemon = true; somebody_died = true }
    :: true
    fi
}

init {
    d_step {
        cell_magazine[0] = 1;
        cell_magazine[1] = 2;
        tail = 2
    }
    atomic {
        run client(1);
        run client(2);
        run daemon();
        run killer()
    }
}
