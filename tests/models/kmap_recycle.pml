/* One kmap slot, two CPUs with a TLB entry for it, two pages that take turns in it.
 *
 * A reader wants either page. He pins the slot if it shows that page: increments, takes that back if it was clean or
 * shows another page now, reads through his TLB and unpins. The recycler claims the slot (unused -> clean), clears the
 * entry, flushes every CPU, and only then gives it to the other page, by an addition, because a late reader's increment
 * may be in it. Proved: a reader who has pinned the slot reads his own page, and no user is lost.
 *
 * Variants that must fail: -DNO_FLUSH publishes without the flush; -DEARLY publishes before it; -DNO_RECHECK does not
 * look at the page again after the increment; -DSTORED publishes by a store.
 */
#define CLEAN   -10
#define UNUSED  0

short count = UNUSED;
byte page = 1;      /* whose slot it is, as the look-up sees it */
byte entry = 1;     /* what the page table shows; 0: nothing */
byte tlb[2];        /* what each CPU has cached; 0: nothing */

proctype reader(byte cpu) {
  byte wanted, tries = 0;
  bool clean;
  do
  :: tries == 3 -> break
  :: tries < 3 ->
    tries++;
    if :: wanted = 1 :: wanted = 2 fi;
    if
    :: page != wanted -> skip
    :: page == wanted ->
      atomic { count++; clean = count <= UNUSED }
      if
      :: clean -> skip
#ifndef NO_RECHECK
      :: !clean && page != wanted -> skip
      :: !clean && page == wanted ->
#else
      :: !clean ->
#endif
        atomic { if :: tlb[cpu] == 0 -> tlb[cpu] = entry :: else -> skip fi }
        assert(tlb[cpu] == wanted)
      fi;
      atomic { count--; assert(count < 0 || count >= UNUSED) }
    fi
  od
}

proctype recycler() {
  byte rounds = 0;
  bool mine;
  do
  :: rounds == 3 -> break
  :: rounds < 3 ->
    rounds++;
    mine = false;
    atomic { if :: count == UNUSED -> count = CLEAN; mine = true :: else -> skip fi }
    if
    :: !mine -> skip
    :: mine ->
      entry = 0;
#if !defined(NO_FLUSH) && !defined(EARLY)
      tlb[0] = 0;
      tlb[1] = 0;
#endif
      entry = 3 - page;
      page = 3 - page;
#ifdef STORED
      count = UNUSED;
#else
      count = count + UNUSED - CLEAN;
#endif
#ifdef EARLY
      tlb[0] = 0;
      tlb[1] = 0;
#endif
    fi
  od
}

/* Everybody has gone: nobody's increment was lost, and none was counted twice. */
init {
  atomic { run reader(0); run reader(1); run recycler() }
  _nr_pr == 1;
  assert(count == UNUSED)
}
