// `slabinfo`: object caches, as Linux prints them.
#include "mm/slab.hpp"

#include "kernel/console/command.hpp"

namespace paean {

namespace {

CommandStatus slabinfo(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  print_slabinfo(out);
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(slabinfo, "", "object caches: objects, slabs, sizes", slabinfo)

}  // namespace paean
