/* Two slots in one chain of the hash: who looks for the one walks over the other, which is recycled meanwhile, and taken
 * for a page of this chain or of another.
 *
 * Slot 1 has page 1 and a user for good. Slot 2 stands in front of it and changes between page 2, of the same chain,
 * and page 3, of another one: unused -> clean, out of its chain with its own link kept, the new page and link, count,
 * head; all of it under the lock. `unmapper` is kunmap of page 1: a walk without the lock, which can lose its way, and
 * if that finds nothing another one with the lock. `asker` is kmap_if_mapped of page 2. Proved: page 1 is always found;
 * who has pinned a slot has the page that he wanted; no walk goes on for ever.
 *
 * Variants that must fail: -DNO_SECOND_LOOK believes the walk without the lock; -DNO_LOCK looks again without the lock;
 * -DNO_RECHECK does not look at the page again once the slot is pinned.
 */
#define CLEAN   -20
#define UNUSED  0
#define END     0  /* the slot behind every chain */
#define LONGEST 8  /* more steps than the moves below can make of a walk */

#define chain_of(p) ((p) == 3)

byte head[2];
byte page[3], link[3];
short count[3];  /* by slot */
bool locked = false;

/* found: the slot, pinned; END if there is none */
inline look_for(wanted) {
  steps = 0;
  at = head[chain_of(wanted)];
  do
  :: page[at] == wanted || at == END -> break
  :: else -> at = link[at]; steps++; assert(steps < LONGEST)
  od;
  found = END;
  if
  :: at == END -> skip
  :: else ->
    atomic { count[at]++; if :: count[at] > UNUSED -> found = at :: else -> skip fi }
    if
    :: found == END -> count[at]--
#ifndef NO_RECHECK
    :: found != END && page[found] != wanted -> atomic { count[found]--; found = END }
    :: found != END && page[found] == wanted -> skip
#else
    :: else -> skip
#endif
    fi
  fi
}

inline look_twice(wanted) {
  look_for(wanted);
#ifndef NO_SECOND_LOOK
  if
  :: found != END -> skip
  :: else ->
#ifndef NO_LOCK
    atomic { !locked -> locked = true }
#endif
    look_for(wanted);
#ifndef NO_LOCK
    locked = false
#endif
  fi
#endif
}

proctype unmapper() {
  byte at, found, steps;
  look_twice(1);
  assert(found == 1 && count[1] == UNUSED + 2)
}

proctype asker() {
  byte at, found, steps, tries = 0;
  do
  :: tries == 2 -> break
  :: tries < 2 ->
    tries++;
    look_twice(2);
    if
    :: found == END -> skip
    :: else -> assert(page[found] == 2); atomic { count[found]--; assert(count[found] >= UNUSED) }
    fi
  od
}

/* kmap of the one page, then of the other, each used for a moment */
proctype mover() {
  byte moves = 0, to;
  bool mine;
  do
  :: moves == 3 -> break
  :: moves < 3 ->
    moves++;
    mine = false;
    atomic { !locked -> locked = true }
    atomic { if :: count[2] == UNUSED -> count[2] = CLEAN; mine = true :: else -> skip fi }
    if
    :: !mine -> skip
    :: mine ->
      head[chain_of(page[2])] = link[2];  /* it is the first */
      if :: to = 2 :: to = 3 fi;
      page[2] = to;
      link[2] = head[chain_of(to)];
      count[2] = count[2] + UNUSED + 1 - CLEAN;
      head[chain_of(to)] = 2
    fi;
    locked = false;
    if :: mine -> atomic { count[2]--; assert(count[2] >= UNUSED) } :: else -> skip fi
  od
}

init {
  atomic {
    page[1] = 1; count[1] = UNUSED + 1; link[1] = END;
    page[2] = 2; count[2] = UNUSED; link[2] = 1;
    head[0] = 2; head[1] = END;
    run unmapper(); run asker(); run mover()
  }
}
