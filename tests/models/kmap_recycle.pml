/* One kmap slot, two CPUs with a TLB entry for it, two pages that take turns in it.
 *
 * A reader wants either page. He pins the slot if it shows that page (increment if not clean, look again), reads
 * through his TLB and unpins. The recycler claims the slot (unused -> clean), clears the entry, flushes every CPU, and
 * only then gives it to the other page. Proved: a reader who has pinned the slot reads his own page.
 *
 * Variants that must fail: -DNO_FLUSH publishes without the flush; -DEARLY publishes before it; -DNO_RECHECK does not
 * look at the page again after the increment.
 */
#define CLEAN   0
#define UNUSED  1

byte count = UNUSED;
byte page = 1;      /* whose slot it is, as the look-up sees it */
byte entry = 1;     /* what the page table shows; 0: nothing */
byte tlb[2];        /* what each CPU has cached; 0: nothing */

proctype reader(byte cpu) {
  byte wanted, seen, tries = 0;
  do
  :: tries == 3 -> break
  :: tries < 3 ->
    tries++;
    if :: wanted = 1 :: wanted = 2 fi;
    if
    :: page != wanted -> skip
    :: page == wanted ->
      seen = count;
      if
      :: seen == CLEAN -> skip
      :: else ->
        bool pinned = false;
        atomic { if :: count == seen -> count++; pinned = true :: else -> skip fi }
        if
        :: !pinned -> skip
        :: pinned ->
#ifndef NO_RECHECK
          if
          :: page != wanted -> skip
          :: else ->
#endif
            atomic { if :: tlb[cpu] == 0 -> tlb[cpu] = entry :: else -> skip fi }
            assert(tlb[cpu] == wanted);
#ifndef NO_RECHECK
          fi;
#endif
          atomic { count--; assert(count >= UNUSED) }
        fi
      fi
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
      count = UNUSED;
#ifdef EARLY
      tlb[0] = 0;
      tlb[1] = 0;
#endif
    fi
  od
}

init {
  atomic { run reader(0); run reader(1); run recycler() }
}
