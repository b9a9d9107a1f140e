/* The emergency pool of a device that does not reach all memory: who writes dirty pages out must never wait for memory
 * that only his own writing would give back.
 *
 * Four requests of three sectors each want a pool of four. A part of a request, half of the pool at most, is reserved
 * before it is queued, in the order of coming; the device completes what is queued, in any order, and that alone gives
 * sectors back, to whoever waits first. Proved: every request comes to its end, all sectors are back, and while one
 * waits no more parts are served than stood before it.
 *
 * Variants that must fail: -DPIECEWISE takes sectors one by one, and keeps those that it has while it waits for the
 * others; -DNO_HANDING_ON gives sectors back and tells nobody; -DOVERTAKE serves whoever can be served at once.
 */
#define REQUESTS 4
#define SECTORS 4
#define LARGEST 2                  /* half of the pool */
#define NEEDED 3

byte free = SECTORS;
byte finished = 0;                 /* requests that are queued as a whole */
byte queued[LARGEST + 1];          /* parts that the device has, by size */
byte waiting[REQUESTS];            /* who waits, first one first */
byte waiters = 0;
byte wants[REQUESTS];              /* sectors; 0: granted */
byte before[REQUESTS];             /* how many stood before it, less those that were served since */

/* Under the pool's lock: sectors for request r. All who wait longer see somebody served. */
inline grant(r) {
  free = free - wants[r];
  wants[r] = 0
}

inline served_one() {
  other = 0;
  do
  :: other == REQUESTS -> break
  :: other < REQUESTS ->
    if
    :: wants[other] != 0 && other != _pid -> assert(before[other] > 0); before[other]--
    :: else -> skip
    fi;
    other++
  od
}

/* Of those who wait the first one, as long as there is enough for it. */
inline hand_on() {
  do
  :: waiters != 0 && wants[waiting[0]] <= free ->
    grant(waiting[0]);
    i = 1;
    do
    :: i >= waiters -> break
    :: i < waiters -> before[waiting[i]]--; waiting[i - 1] = waiting[i]; i++
    od;
    waiters--
  :: else -> break
  od
}

active [REQUESTS] proctype request() {
  byte left = NEEDED, part, other;
  do
  :: left == 0 -> break
  :: left != 0 ->
    part = (left < LARGEST -> left : LARGEST);
#ifdef PIECEWISE
    byte got = 0;
    do
    :: got == part -> break
    :: got < part -> atomic { free != 0 -> free--; got++ }
    od;
#else
    atomic {
      wants[_pid] = part;
      if
#ifdef OVERTAKE
      :: part <= free -> grant(_pid); served_one()
#else
      :: waiters == 0 && part <= free -> grant(_pid); served_one()
#endif
      :: else -> before[_pid] = waiters; waiting[waiters] = _pid; waiters++
      fi
    }
    (wants[_pid] == 0);
#endif
    queued[part]++;
    left = left - part
  od;
  finished++
}

active proctype device() {
  byte part, i;
end:
  do
  :: atomic {
       if
       :: queued[1] != 0 -> part = 1
       :: queued[2] != 0 -> part = 2
       fi;
       queued[part]--;
       free = free + part
#ifndef NO_HANDING_ON
       ;
       hand_on()
#endif
     }
  :: atomic { (finished == REQUESTS && queued[1] + queued[2] == 0) -> assert(free == SECTORS && waiters == 0); break }
  od
}
