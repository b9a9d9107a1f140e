// `kmapinfo`: what the persistent kmap slots are doing.
#include "mm/kmap.hpp"
#include "arch/layout.hpp"
#include "kernel/console/command.hpp"
#include "mm/kmap_block.hpp"

namespace paean {

namespace {

CommandStatus kmapinfo(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  const KmapStatistics s = kmap_statistics();
  format_to(out, "slots         {:>10}   at {:#010x}-{:#010x}\n", s.slots, kmap_slot_address(0),
            kmap_slot_address(s.slots) - 1);
  format_to(out, "  in use      {:>10}   at most {} at once\n", s.live, s.high_water);
  format_to(out, "  cached      {:>10}   mapped, without a user\n", s.cached);
  format_to(out, "  clean       {:>10}   may be mapped at once\n", s.clean);
  format_to(out, "  waiting     {:>10}   until every CPU has flushed\n", s.waiting);
  const u64 maps = s.hits + s.misses;
  format_to(out, "hits          {:>10}   {} % of {} maps\n", s.hits, maps == 0 ? 0 : s.hits * 100 / maps, maps);
  format_to(out, "misses        {:>10}   the pool {} times over\n", s.misses, s.wraps);
  format_to(out, "flushes       {:>10}   of other CPUs; {} by CPUs of themselves\n", s.flushes, s.own_flushes);
  format_to(out, "IPIs sent     {:>10}\n", s.ipis);
  format_to(out, "IPIs saved    {:>10}   against one flush each time over\n",
            s.ipis_if_wrapped > s.ipis ? s.ipis_if_wrapped - s.ipis : 0);
  format_to(out, "sleepers      {:>10}   now; {} since boot, {} wakes\n", s.sleeping, s.sleeps, s.wakes);
  format_to(out, "dropped       {:>10}   cached maps of freed pages\n", s.dropped);
  format_to(out, "parked        {:>10}   freed blocks, {} pages, until every CPU has flushed; at most {}, {} in all\n",
            s.parked_blocks, s.parked_pages, s.most_parked, s.blocks_parked);
  const BlockWindowStatistics b = block_window_statistics();
  format_to(out, "block windows {:>10}   of {} show 2 MiB, {} in use; {} maps, {} changes, {} flushes, {} sleeps\n",
            b.shown, arch::kBlockWindows, b.live, b.maps, b.changes, b.flushes, b.sleeps);
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(kmapinfo, "", "slots of kmap by state, hits, misses, flushes", kmapinfo)

}  // namespace paean
