/* A program's page is moved to another frame while the program stores to it and somebody else holds it.
 *
 * The mover takes a reference, makes the entry read-only, flushes, looks whether references are the entry's and its
 * own, copies, changes the entry if it still shows the page, flushes, and frees what nobody has a reference to. The
 * program loads and stores by its translation; a store to what is read-only copies a page that has other references,
 * as after fork. A holder stores by a reference that he took while the entry was writable; meanwhile the program,
 * which has asked him to, only loads. Proved: the program reads what was stored last, and nobody uses a frame that was
 * freed.
 *
 * Variants that must fail: -DNO_FIRST_FLUSH copies while old translations still store; -DNO_LAST_FLUSH frees the frame
 * while old translations still read it; -DNO_COUNT does not ask who else has a reference.
 */
#define OLD 0
#define TARGET 1
#define COPY 2
#define NOTHING 3

byte entry = OLD;
bool writable = true;
byte tlb = NOTHING;         /* of the program's CPU */
bool tlb_writable = false;
byte references[3];
byte contents[3];           /* what the program stored */
byte held_contents[3];      /* what the holder stored, elsewhere in the page */
byte last = 0, held_last = 0;
bool ready = false, held = false, storing = false;

#define exists(frame) (references[frame] != 0)

inline put(frame) {
  assert(exists(frame));
  references[frame]--
}

/* What the entry does not let the program do: the page is reused by its last owner, or else copied. */
inline fault(from) {
  atomic {
    from = NOTHING;
    if
    :: !writable && references[entry] == 1 -> writable = true
    :: !writable && references[entry] != 1 -> from = entry; references[from]++
    :: else -> skip
    fi;
    tlb = NOTHING
  };
  if
  :: from != NOTHING ->
    atomic {
      references[COPY]++;
      contents[COPY] = contents[from];
      held_contents[COPY] = held_contents[from]
    };
    atomic {
      if
      :: entry == from && !writable -> entry = COPY; writable = true; tlb = NOTHING; put(from)
      :: else -> put(COPY)
      fi;
      put(from)
    }
  :: else -> skip
  fi
}

init {
  references[OLD] = 1;
  ready = true
}

active proctype mover() {
  bool rests, replaced;
  atomic { (ready && entry == OLD) -> references[OLD]++; references[TARGET] = 1 }
  atomic { rests = (entry == OLD); if :: rests -> writable = false :: else -> skip fi }
#ifndef NO_FIRST_FLUSH
  tlb = NOTHING;
#endif
#ifndef NO_COUNT
  rests = rests && references[OLD] == 2;
#endif
  if
  :: rests ->
    contents[TARGET] = contents[OLD];
    held_contents[TARGET] = held_contents[OLD];
    atomic {
      replaced = (entry == OLD);
      if
      :: replaced -> entry = TARGET; writable = false; references[TARGET]++
      :: else -> skip
      fi
    }
#ifndef NO_LAST_FLUSH
    tlb = NOTHING;
#endif
    if
    :: replaced -> put(OLD)  /* the entry's */
    :: else -> skip
    fi
  :: else -> skip
  fi;
  put(OLD);
  put(TARGET)
}

/* A walk of the tables fills the TLB. */
inline translate() {
  if
  :: tlb == NOTHING -> tlb = entry; tlb_writable = writable
  :: else -> skip
  fi
}

active proctype program() {
  byte rounds = 0, from;
  bool again;
  (ready);
  do
  :: rounds == 3 -> break
  :: rounds < 3 ->  /* a load */
    rounds++;
    atomic { translate() };
    atomic {
      translate();  /* if it was flushed since */
      assert(exists(tlb) && contents[tlb] == last && held_contents[tlb] == held_last)
    }
  :: atomic { rounds < 3 && !held -> storing = true }  /* a store */
    rounds++;
    again = true;
    do
    :: !again -> break
    :: again ->
      atomic { translate() };
      atomic {
        translate();
        if
        :: tlb_writable -> assert(exists(tlb)); last++; contents[tlb] = last; again = false
        :: else -> skip
        fi
      };
      if
      :: again -> fault(from)
      :: else -> skip
      fi
    od;
    storing = false
  od
}

active proctype holder() {
  byte page;
  (ready);
  if
  :: atomic { writable && entry == OLD && !storing -> held = true; page = entry; references[page]++ }
     atomic { held_last++; assert(exists(page)); held_contents[page] = held_last }
     atomic { put(page); held = false }
  :: true -> skip
  fi
}
