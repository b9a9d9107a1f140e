/* Generations: a CPU that goes idle is not interrupted for a flush; it makes up for it before it touches anything.
 *
 * The initiator clears an entry, raises the generation, looks who is idle, interrupts the others, waits for those, and
 * reuses the address. The other CPU goes idle and comes back at any moment. Proved: it never uses the old translation
 * after the address was reused.
 *
 * Variants that must fail: -DNO_CATCH_UP leaves idle without looking at the generation; -DIDLE_FIRST looks who is idle
 * before the generation rises; -DNO_IPI interrupts nobody and does not wait.
 */
byte generation = 1, flushed = 1;
byte entry = 1;        /* 1: the old page, 0: nothing, 2: the new page */
byte tlb = 1;
bool idle = false, interrupt = false;

inline flush() { atomic { flushed = generation; tlb = 0 } }

active proctype initiator() {
  bool was_idle;
#ifdef IDLE_FIRST
  was_idle = idle;
#endif
  entry = 0;
  generation++;
#ifndef IDLE_FIRST
  was_idle = idle;
#endif
#ifndef NO_IPI
  if
  :: was_idle || flushed >= generation -> skip
  :: else -> interrupt = true; (flushed >= generation || idle)
  fi;
#endif
  entry = 2
}

active proctype other() {
  byte steps = 0;
  bool reused;
  do
  :: steps == 5 -> break
  :: steps < 5 ->
    steps++;
    if
    :: interrupt -> interrupt = false; flush()
    :: !interrupt ->
      atomic { reused = (entry == 2); if :: tlb == 0 -> tlb = entry :: else -> skip fi; assert(!reused || tlb == 2) }
    :: !interrupt ->
      idle = true;
      idle = false;
#ifndef NO_CATCH_UP
      if :: flushed < generation -> flush() :: else -> skip fi
#endif
    fi
  od;
end_answers:
  do :: interrupt -> interrupt = false; flush() od
}
