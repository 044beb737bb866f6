/* One slot and its handle: who holds it returns it by a plain store as long as nobody was given the
 * handle, while others put and adopt by handles that they were given or guessed. See
 * docs/concurrency.md, "A put without a compare-and-swap".
 *
 * Every client does OPS operations of its choice. Who holds the slot puts, shows or detaches it. Who
 * doesn't gets it, if it is free, or puts or adopts it by its handle: always the right one, as if
 * each guess hit. A get is one step: whose the magazine is stands in steal.pml. All plain stores
 * linger in a store buffer.
 *
 * Asserted, by a variable no client reads:
 *   overwritten a plain store of the slot's word (F2, H1) reaches it while it is still its holder's
 *   twice       a slot handed out is held by nobody
 *   lost        in the end the word names the holder, if there is one
 *
 * Broken on purpose, to see that it is found: GUESS (put and adopt take a slot that is HELD too),
 * PLAIN_SHOWN (a slot that was shown is returned by F2 all the same).
 */
#ifndef OPS
#define OPS 3
#endif

#define CLIENTS 3
#define BUFFERS 3
#define DEPTH 1
#define SIZE 1
#define SLOT 0 /* the slot's word, all there is in memory */

/* generation * 16 + client * 4 + state. A generation grows at each get and adopt. */
#define FREE 0
#define HELD 1
#define SHOWN 2
#define DETACHED 3
#define WORD(g, c, s) (16 * (g) + 4 * (c) + (s))
#define STATE(w) ((w) % 4)
#define CLIENT(w) (((w) / 4) % 4)
#define GENERATION(w) ((w) / 16)

/* Ghosts. */
byte holder; /* 0: nobody */
byte ended;

inline reached(by, spot_, value_) {
    assert(holder == by); /* overwritten */
    if
    :: STATE(value_) == FREE -> holder = 0
    :: else
    fi
}

#include "tso.pml"

#ifdef GUESS
#define HAS_HANDLE(w) (STATE(w) != FREE)
#else
#define HAS_HANDLE(w) (STATE(w) == SHOWN || STATE(w) == DETACHED)
#endif

/* C0, C1. */
inline get() {
    d_step {
        drain_all(me);
        w = mem[SLOT];
        if
        :: STATE(w) == FREE ->
           assert(holder == 0); /* twice */
           mine = GENERATION(w) + 1;
           mem[SLOT] = WORD(mine, me, HELD);
           holder = me;
           has = true;
           shown = false
        :: else
        fi;
        w = 0
    }
}

/* F0, F1 by the handle. */
inline put_by_handle() {
    load(SLOT, w);
    d_step {
        if
        :: HAS_HANDLE(w) ->
           swap_if(SLOT, w, WORD(GENERATION(w), 0, FREE), ok);
           if
           :: ok -> holder = 0
           :: else
           fi
        :: else
        fi;
        w = 0;
        ok = false
    }
}

/* A0, A1. */
inline adopt() {
    load(SLOT, w);
    d_step {
        if
        :: HAS_HANDLE(w) ->
           swap_if(SLOT, w, WORD(GENERATION(w) + 1, me, HELD), ok);
           if
           :: ok ->
              mine = GENERATION(w) + 1;
              holder = me;
              has = true;
              shown = false
           :: else
           fi
        :: else
        fi;
        w = 0;
        ok = false
    }
}

/* F0, F2. */
inline put_private(state) {
    load(SLOT, w);
    d_step {
        if
        :: w == WORD(mine, me, state) -> put_store(SLOT, WORD(mine, 0, FREE))
        :: else /* refused */
        fi;
        has = false;
        mine = 0;
        w = 0
    }
}

/* F1 of a slot that was shown. */
inline put_shown() {
    d_step {
        swap_if(SLOT, WORD(mine, me, SHOWN), WORD(mine, 0, FREE), ok);
        if
        :: ok -> assert(holder == me); holder = 0
        :: else /* somebody had the handle, and was faster */
        fi;
        has = false;
        mine = 0;
        ok = false
    }
}

/* H1. */
inline give_out() {
    load(SLOT, w);
    d_step {
        if
        :: w == WORD(mine, me, HELD) -> put_store(SLOT, WORD(mine, me, SHOWN)); shown = true
        :: else
        fi;
        w = 0
    }
}

/* D1. */
inline detach() {
    d_step { /* a loop of CASes */
        drain_all(me);
        w = mem[SLOT];
        if
        :: (STATE(w) == HELD || STATE(w) == SHOWN) && CLIENT(w) == me && GENERATION(w) == mine ->
           swap_if(SLOT, w, WORD(mine, me, DETACHED), ok);
           holder = 0
        :: else
        fi;
        has = false;
        mine = 0;
        w = 0;
        ok = false
    }
}

proctype client(byte me) {
    byte ops = OPS;
    byte mine; /* the generation of the slot it has, or thinks it has */
    byte w;
    bool has, shown, ok;
    do
    :: ops == 0 -> break
    :: ops > 0 && !has ->
       ops--;
       if
       :: get()
       :: put_by_handle()
       :: adopt()
       fi
    :: ops > 0 && has ->
       ops--;
       if
       :: !shown -> put_private(HELD)
       :: !shown -> give_out()
#ifdef PLAIN_SHOWN
       :: shown -> put_private(SHOWN)
#else
       :: shown -> put_shown()
#endif
       :: detach()
       fi
    od;
    skip;
    d_step { drain_all(me); ended++ }
}

init {
    atomic {
        run client(1);
        run client(2);
        run client(3);
        run drain(1);
        run drain(2);
        run drain(3)
    }
    ended == CLIENTS;
    assert(holder == (STATE(mem[SLOT]) == HELD || STATE(mem[SLOT]) == SHOWN -> CLIENT(mem[SLOT]) : 0)) /* lost */
}
