/* A frame that had a cached map is freed while another CPU may still have a translation for it.
 *
 * CPU 0 maps frame 1 at the slot, unmaps it and frees it: it clears the entry, drops its own translation, stamps the
 * frame with a new generation and parks it. Whoever settles gives the frame to a new owner, who writes his contents,
 * once CPU 1 has flushed at or after the stamp. CPU 1 reads the old address all the time, right or wrong, and flushes
 * when it likes. Proved: nobody ever reads the new owner's contents through the old address.
 *
 * Variants that must fail: -DNO_PARK gives the frame away at once; -DSTAMP_FIRST takes the stamp before the entry is
 * cleared, so that a flush in between counts.
 */
byte generation = 1, flushed = 1;
byte entry = 1;            /* the frame that the slot shows; 0: nothing */
byte tlb = 0;              /* of CPU 1; 0: nothing */
byte stamp = 0;            /* of the parked frame; 0: not parked */
byte contents = 0;         /* of frame 1. 0: the old owner's, 1: the new owner's */
bool owned_anew = false;

active proctype cpu0() {
#ifdef STAMP_FIRST
  byte early;
  atomic { generation++; early = generation }
  entry = 0;
  stamp = early;
#else
  entry = 0;
  atomic { generation++; stamp = generation }
#endif
}

active proctype settle() {
#ifdef NO_PARK
end_never: (stamp != 0);
#else
end_never: (stamp != 0 && flushed >= stamp);  /* the other CPU may not flush any more: then nothing is wrong */
#endif
  owned_anew = true;
  contents = 1;
}

active proctype cpu1() {
  byte rounds = 0, seen;
  do
  :: rounds == 6 -> break
  :: rounds < 6 ->
    rounds++;
    if
    :: atomic { if :: tlb == 0 -> tlb = entry :: else -> skip fi }  /* a walk fills the TLB */
       if
       :: tlb == 1 -> seen = contents; assert(!(seen == 1 && owned_anew))
       :: else -> skip  /* it faults */
       fi
    :: atomic { flushed = generation; tlb = 0 }
    fi
  od
}
