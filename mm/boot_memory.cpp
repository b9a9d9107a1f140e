#include "mm/boot_memory.hpp"

#include "arch/boot_info.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "kernel/log_lines.hpp"
#include "mm/kmap.hpp"
#include "mm/lowmem.hpp"
#include "mm/multiboot_mmap.hpp"

namespace paean {

extern "C" char __image_start[], __image_end[];

namespace {

constinit MemoryMap the_map;
constinit RegionAllocator the_regions{the_map};
constinit LayoutPlan the_layout;

/// Without a map the loader may still have said how much memory there is.
void load_basic_memory() {
  const arch::BootInfo& info = arch::boot_info;
  log_warning("no memory map from the boot loader, using its two sizes: {} kB low, {} kB high", info.mem_lower_kib,
              info.mem_upper_kib);
  const u32 lower = info.mem_lower_kib < 640 ? info.mem_lower_kib : 640;
  the_map.add_firmware_entry(E820Entry{0, u64{lower} * kKiB, 1});
  the_map.add_firmware_entry(E820Entry{kMiB, u64{info.mem_upper_kib} * kKiB, 1});
}

/// The kind as Linux's boot log names it.
std::string_view e820_name(u32 type) {
  switch (kind_from_e820(type)) {
    case MemoryKind::Usable: return "usable";
    case MemoryKind::AcpiReclaim: return "ACPI data";
    case MemoryKind::AcpiNvs: return "ACPI NVS";
    case MemoryKind::Persistent: return "persistent";
    case MemoryKind::Bad: return "unusable";
    case MemoryKind::Reserved: break;
  }
  return "reserved";
}

void print_entry(const char* who, u64 base, u64 length, std::string_view kind) {
  if (length == 0)
    log_info("{}: [mem {:#018x}-empty] {}", who, base, kind);
  else
    log_info("{}: [mem {:#018x}-{:#018x}] {}", who, base, base + (length - 1), kind);
}

void load_firmware_map() {
  const arch::BootInfo& info = arch::boot_info;
  const auto blob = std::as_bytes(std::span{info.mmap, info.mmap_bytes});
  log_info("BIOS-provided physical RAM map:");
  const MmapWalk walk = parse_multiboot_mmap(blob, [](const E820Entry& entry) {
    print_entry("BIOS-e820", entry.base, entry.length, e820_name(entry.type));
    the_map.add_firmware_entry(entry);
  });
  if (walk.end == MmapEnd::Malformed) {
    log_warning("the boot loader's memory map is malformed after {} entries, using those", walk.entries);
  } else if (walk.end == MmapEnd::TooMany || info.mmap_given > info.mmap_bytes) {
    log_warning("the boot loader's memory map is too long, using its first {} entries", walk.entries);
  }
  if (walk.entries == 0) load_basic_memory();
  the_map.seal();
  if (the_map.usable_bytes() == 0) refuse_boot("the boot loader names no usable memory at all.");
}

void clip_to(PhysAddr limit, const char* why) {
  const u64 dropped = the_map.clip(limit);
  if (dropped != 0) log_warning("{} MB of memory above {:#x} is not used: {}", dropped / kMiB, limit, why);
}

void reserve_or_die(PhysRange range, BootReason reason) {
  if (!the_regions.reserve(range, reason)) refuse_boot("the memory map has too many pieces.");
}

/// Lowmem and its holes, for conversions between frames and addresses.
void publish_direct_map(const LayoutPlan& plan) {
  direct_map = DirectMap{plan.page_offset, plan.low_end};
  for (const VaRange& hole : plan.holes()) {
    for (VirtAddr va = hole.begin; va < hole.end; va += kLargePageSize) direct_map.mark_hole(va);
  }
}

u64 reserved_between(BootReason reason, PhysAddr low, PhysAddr high) {
  u64 total = 0;
  the_regions.for_each_reserved([&](PhysAddr begin, PhysAddr end, BootReason r) {
    if (r != reason) return;
    total += the_map.bytes(MemoryKind::Usable, PhysRange{begin, end}.intersect({low, high}));
  });
  return total;
}

}  // namespace

void init_memory(const CommandLine& options) {
  read_memory_map(options);
  plan_address_space(options);
  build_direct_map();
  check_mmu();
  init_frame_words();
  init_zones();
  init_kmap(options);
}

void refuse_boot(const char* why) {
  set_log_prefix("");
  print("Paean cannot boot: {}\n", why);
  {
    // The same on the screen, white on red, as boot/early.cpp does.
    const arch::FixWindow screen{PhysAddr{0xb8000}};
    auto* cell = screen.as<volatile u16>();
    for (u32 i = 0; i < 80 * 25; ++i) cell[i] = 0x0720;
    for (const char* part : {"Paean cannot boot: ", why}) {
      for (; *part != '\0'; ++part) *cell++ = static_cast<u16>(0x4f00 | static_cast<u8>(*part));
    }
  }
  arch::debug_exit(arch::ExitCode::Fail);
  arch::halt_forever();
}

void read_memory_map(const CommandLine& options) {
  LogLines complaints{LogLevel::Warning};
  load_firmware_map();
  const bool edited = options.has("memmap") || options.has("mem");
  options.for_each("memmap", [&](std::string_view value) { apply_memmap_option(the_map, value, complaints); });
  options.for_each("mem", [&](std::string_view value) { (void)apply_mem_option(the_map, value, complaints); });
  if (edited) {
    log_info("user-defined physical RAM map:");
    for (const auto& entry : the_map.ranges()) {
      print_entry("user", entry.begin.raw(), entry.end - entry.begin, name(entry.tag));
    }
  }
  clip_to(PhysAddr{u64{1} << arch::cpu_features().physical_bits}, "beyond the CPU's physical address width");
  clip_to(kPfnLimit, "frame numbers have 32 bits");
  if (the_map.partial_bytes() != 0) log_info("{} bytes of memory lost to page rounding", the_map.partial_bytes());

  const u64 image_end = u64{reinterpret_cast<u32>(__image_end)} - arch::kImageOffset;
  const u64 image_start = u64{reinterpret_cast<u32>(__image_start)} - arch::kImageOffset;
  reserve_or_die({PhysAddr{image_start}, PhysAddr{image_end}}, BootReason::KernelImage);
  reserve_or_die({PhysAddr{0xa0000}, PhysAddr{kMiB}}, BootReason::Firmware);
  const arch::BootInfo& info = arch::boot_info;
  for (u32 i = 0; i < info.module_count; ++i) {
    const arch::BootModule& module = info.modules[i];
    if (module.start < module.end) {
      reserve_or_die({PhysAddr{module.start}, PhysAddr{module.end}}, BootReason::Modules);
    }
  }
}

void plan_address_space(const CommandLine& options) {
  LogLines complaints{LogLevel::Warning};
  static constexpr std::string_view kSplits[] = {"3G", "3.5G", "2G", "1G"};
  LayoutRequest request;
  request.split = static_cast<VmSplit>(options.choice("vmsplit", kSplits, 0, complaints));
  request.vmalloc_bytes = options.size("vmalloc", LayoutRequest::kDefaultVmalloc, complaints);
  constexpr u64 kNotGiven = ~u64{0};
  const u64 upper = options.size("vmalloc_upper", kNotGiven, complaints);
  if (upper != kNotGiven) request.vmalloc_upper = upper;
  const u64 highmem = options.size("highmem", kNotGiven, complaints);
  if (highmem != kNotGiven) request.highmem_bytes = highmem;
  the_layout = plan_layout(request, the_map, complaints);
  publish_direct_map(the_layout);

  const u64 low = the_map.usable_bytes_below(to_phys(the_layout.low_end));
  const u64 high = the_map.usable_bytes_from(to_phys(the_layout.low_end));
  if (low < kMinimumUsable) refuse_boot("too little memory below the direct map's limit, at least 8 MB are needed.");
  log_info("{}MB HIGHMEM available.", high / kMiB);
  log_info("{}MB LOWMEM available.", low / kMiB);
}

const MemoryMap& memory_map() { return the_map; }
const RegionAllocator& boot_regions() { return the_regions; }
const LayoutPlan& layout() { return the_layout; }
std::span<const VaRange> vmalloc_ranges() { return the_layout.vmalloc_ranges(); }
MemoryMap& memory_map_for_boot() { return the_map; }
RegionAllocator& regions_for_boot() { return the_regions; }
LayoutPlan& layout_for_boot() { return the_layout; }

u64 low_reserved_bytes(BootReason reason) { return reserved_between(reason, PhysAddr{0}, to_phys(the_layout.low_end)); }
u64 reserved_bytes(BootReason reason) { return the_regions.reserved_bytes(reason); }

Result<PhysAddr> allocate_boot_table() {
  const PhysAddr low_end = to_phys(the_layout.low_end);
  // Above the DMA zone if possible: devices that need it cannot use anything else.
  constexpr PhysAddr kDmaEnd{u64{16} * kMiB};
  Result<PhysAddr> page =
      the_regions.allocate(kPageSize, kPageSize, {kDmaEnd, low_end}, Direction::BottomUp, BootReason::PageTables);
  if (!page) {
    page = the_regions.allocate(kPageSize, kPageSize, {PhysAddr{kMiB}, low_end}, Direction::TopDown,
                                BootReason::PageTables);
  }
  if (!page) return page;
  const arch::FixWindow window{*page};
  __builtin_memset(window.bytes(), 0, kPageSize);
  return page;
}

}  // namespace paean
