// Playing with the frame allocator: `alloc` takes blocks, `free` gives them back. What was taken is remembered, so that
// a mistyped frame number is an answer and not a crash, and so that nothing is lost.
#include "kernel/console/command.hpp"
#include "lib/parse.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

constexpr u32 kMaxHeld = 64;

struct Held {
  Page* page = nullptr;
  Order order{};
};
constinit Held held[kMaxHeld]{};

struct NamedFlags {
  std::string_view name;
  AllocFlags flags;
};
constexpr NamedFlags kZoneNames[] = {{"high", AllocFlags::HighUser},
                                     {"low", AllocFlags::Kernel},
                                     {"dma", AllocFlags::Dma},
                                     {"dma32", AllocFlags::Dma32}};

Held* free_place() {
  for (Held& place : held) {
    if (place.page == nullptr) return &place;
  }
  return nullptr;
}

void print_held(const Held& h, Sink& out) {
  const Pfn pfn = page_to_pfn(h.page);
  format_to(out, "frame {:#x} order {} ({} kB) in {}\n", pfn, h.order, PageCount{h.order}.kib(), name(zone_of(pfn)));
}

CommandStatus list_held(Sink& out) {
  u32 count = 0;
  for (const Held& place : held) {
    if (place.page == nullptr) continue;
    print_held(place, out);
    ++count;
  }
  if (count == 0) format_to(out, "nothing is held; alloc ORDER [high|low|dma|dma32] takes a block\n");
  return CommandStatus::Ok;
}

CommandStatus do_alloc(Args& args, Sink& out) {
  if (!args.more()) return list_held(out);
  const auto order = args.number("ORDER", kMaxOrder);
  if (!order) return CommandStatus::Usage;
  AllocFlags flags = AllocFlags::HighUser;
  if (const auto word = args.next()) {
    const NamedFlags* found = nullptr;
    for (const NamedFlags& entry : kZoneNames) {
      if (entry.name == *word) found = &entry;
    }
    if (found == nullptr) {
      format_to(out, "alloc: {} is not high, low, dma or dma32\n", *word);
      return CommandStatus::Usage;
    }
    flags = found->flags;
  }
  if (!args.end()) return CommandStatus::Usage;
  Held* place = free_place();
  if (place == nullptr) {
    format_to(out, "alloc: {} blocks are held already, free some\n", kMaxHeld);
    return CommandStatus::Failed;
  }
  const Order wanted{static_cast<u32>(*order)};
  const Result<Page*> page = alloc_pages(flags | AllocFlags::NoWarn, wanted, Owner::Console);
  if (!page) {
    format_to(out, "alloc: {}\n", error_name(page.error()));
    return CommandStatus::Failed;
  }
  *place = Held{*page, wanted};
  print_held(*place, out);
  return CommandStatus::Ok;
}

CommandStatus do_free(Args& args, Sink& out) {
  const auto word = args.word("PFN|all");
  if (!word || !args.end()) return CommandStatus::Usage;
  const bool all = *word == "all";
  const auto number = parse_number(*word);
  if (!all && !number) {
    format_to(out, "free: {} is neither a frame number nor all\n", *word);
    return CommandStatus::Usage;
  }
  u32 freed = 0;
  for (Held& place : held) {
    if (place.page == nullptr) continue;
    if (!all && page_to_pfn(place.page) != Pfn{static_cast<u32>(*number)}) continue;
    free_pages(place.page, place.order);
    place = Held{};
    ++freed;
  }
  if (freed == 0) {
    format_to(out, "free: not a frame that alloc gave\n");
    return CommandStatus::Failed;
  }
  format_to(out, "{} freed\n", freed);
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(alloc, "[ORDER [high|low|dma|dma32]]", "take a block of 2^ORDER pages, or list what is held", do_alloc)
KCOMMAND(free, "PFN|all", "give back what alloc took", do_free)

}  // namespace paean
