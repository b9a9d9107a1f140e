// Walking the frames of a zone block by block: what `map` and checks look at.
// Context: any; what it reports may be old by the time it is used, because the zone's lock is held only for a moment.
#pragma once

#include "mm/zone.hpp"

namespace paean {

/// What a run of frames is used for.
enum class FrameUse : u8 { Free, Hole, Reserved, Allocated };

struct FrameRun {
  Pfn first{};
  PageCount count{};
  FrameUse use{};
  Owner owner{};  // if Allocated
};

/// The run that begins at `pfn`, at most up to the zone's end. Precondition: pfn in the zone.
FrameRun frame_run_at(Zone& zone, Pfn pfn);

}  // namespace paean
