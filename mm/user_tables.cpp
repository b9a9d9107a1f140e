#include "mm/user_tables.hpp"

#include "arch/cpu.hpp"
#include "kernel/fault.hpp"
#include "kernel/log_lines.hpp"
#include "mm/lowmem.hpp"
#include "mm/reclaim_rules.hpp"
#include "mm/slab.hpp"

namespace paean {

using namespace arch::pte_bits;

PER_CPU(UserTables*, current_tables){nullptr};

namespace {

FAULT_SITE(user_directory, "a page directory of a user space");
FAULT_SITE(user_table, "a page table of a user space");

constinit ObjectCache pdpts;
constinit TableAccess access_by = TableAccess::Window;
constinit AllocFlags table_flags = AllocFlags::HighUser;
constinit std::atomic<u32> kmaps{0};

constexpr u32 kLastSlot = arch::kPdptSlots - 1;
constexpr u32 kWindowEntries = arch::kUkvaWindowSize / kLargePageSize;
static_assert(kWindowEntries == arch::kPdptSlots);
static_assert(arch::pdpt_index(arch::kUkvaOtherStart) == kLastSlot);

Pfn frame_of(PhysAddr address) { return to_pfn(address); }
PhysAddr address_of(const Page* page) { return to_phys(page_to_pfn(page)); }

/// Distance of the entry for `va` in a window.
u32 window_offset(VirtAddr va) { return (va.raw() >> kPageShift) * u32{sizeof(arch::Pte)}; }
arch::Pte* entry_in(VirtAddr window, VirtAddr va) {
  return reinterpret_cast<arch::Pte*>((window + window_offset(va)).raw());
}
/// The directory entry for `va`, through the window that shows it: the step applied twice. Whichever window it is, the
/// directories are those behind the shown space's own window.
arch::Pde& pde_in(VirtAddr window, VirtAddr va) {
  return *reinterpret_cast<arch::Pde*>(entry_in(window, arch::kUkvaStart + window_offset(va)));
}

/// What a window's entry holds. As a directory entry it names a PTE page; bit 7, large, stays clear.
arch::PteValue window_value(PhysAddr directory) {
  const u64 nx = arch::cpu_features().nx ? kNoExecute : 0;
  return arch::make_table(directory).with(kDirty | nx);
}

AllocFlags flags_of_table() { return follows(OldRule::TablesInLowmem) ? AllocFlags::Kernel : table_flags; }

/// Is there a slot with anything of its own?
bool is_private(u32 slot) { return slot == kLastSlot || (slot << 30) < user_end().raw(); }

/// A directory with what is the kernel's in it. No CPU has it loaded, so its entries are plain memory.
void copy_kernel_entries(Page* page) {
  const u32 first = arch::pdpt_index(user_end()) == kLastSlot ? arch::pd_index(user_end()) : 0;
  const KmapLocal map{page};
  const arch::FixWindow master{arch::kernel_directory(kLastSlot)};
  auto* to = map.as<arch::PageDirectory>()->entries;
  auto* from = master.as<arch::PageDirectory>()->entries;
  constexpr u32 kWindows = arch::pd_index(arch::kUkvaOtherStart), kBehind = arch::pd_index(arch::kPkmapStart);
  copy_bytes(to + first, from + first, (kWindows - first) * sizeof(arch::Pde));
  copy_bytes(to + kBehind, from + kBehind, (arch::kEntriesPerTable - kBehind) * sizeof(arch::Pde));
}

void set_directory_entry(Page* directory, u32 index, arch::PteValue value) {
  const KmapLocal map{directory};
  arch::Pde& entry = map.as<arch::PageDirectory>()->entries[index];
  if (value.present())
    entry.set(value);
  else
    entry.clear();
}

}  // namespace

VirtAddr user_end() { return direct_map.page_offset; }

bool is_user_range(VirtAddr start, u32 bytes) { return start <= user_end() && bytes <= user_end() - start; }

bool UserTables::is_current() const { return current_tables.get() == this; }

Result<> UserTables::create() {
  const auto fail = [this](Error error) -> Result<> {
    destroy();
    return std::unexpected(error);
  };
  const Result<void*> memory = take_cleared_object(pdpts, AllocFlags::Kernel);
  if (!memory) return fail(memory.error());
  pdpt_ = static_cast<arch::Pdpt*>(*memory);
  PhysAddr addresses[arch::kPdptSlots];
  for (u32 slot = 0; slot < arch::kPdptSlots; ++slot) {
    if (!is_private(slot)) {
      addresses[slot] = arch::kernel_directory(slot);
      continue;
    }
    if (must_fail(fault_user_directory)) return fail(Error::OutOfMemory);
    // Nobody ends for a program that has not begun.
    const Result<Page*> page = alloc_page(flags_of_table() | AllocFlags::Zero | AllocFlags::NoWarn, Owner::PageTables);
    if (!page) return fail(page.error());
    directories_[slot] = *page;
    addresses[slot] = address_of(*page);
  }
  copy_kernel_entries(directories_[kLastSlot]);
  for (u32 slot = 0; slot < arch::kPdptSlots; ++slot)
    set_directory_entry(directories_[kLastSlot], arch::pd_index(arch::kUkvaStart) + slot,
                        window_value(addresses[slot]));
  arch::init_user_pdpt(*pdpt_, addresses);
  const Result<LowPfn> frame = low_frame_at(VirtAddr{reinterpret_cast<u32>(pdpt_)});
  ASSERT(frame.has_value());
  tlb_.cr3 = arch::user_cr3(to_phys(frame->pfn()) + VirtAddr{reinterpret_cast<u32>(pdpt_)}.page_offset());
  follow_block_windows(mirror_, directories_[kLastSlot]);
  return {};
}

void UserTables::destroy() {
  ASSERT(table_pages_ == 0 && entries_ == 0 && tlb_.cpus.load() == 0 && other_ == nullptr);
  if (tlb_.cr3 != 0) leave_block_windows(mirror_);
  tlb_.cr3 = 0;
  for (Page*& directory : directories_) {
    if (directory != nullptr) free_page(directory);
    directory = nullptr;
  }
  if (pdpt_ != nullptr) give_object(pdpts, pdpt_);
  pdpt_ = nullptr;
}

std::optional<VirtAddr> UserTables::window() const {
  if (access_by != TableAccess::Window) return std::nullopt;
  const UserTables* mine = current_tables.get();
  if (mine == this) return arch::kUkvaStart;
  if (mine != nullptr && seen_by_ == mine) return arch::kUkvaOtherStart;
  return std::nullopt;
}

arch::PteValue UserTables::read_pde(VirtAddr va) const {
  if (const auto at = window()) return pde_in(*at, va).own_value();
  kmaps.fetch_add(1, std::memory_order_relaxed);
  const KmapLocal map{directories_[arch::pdpt_index(va)]};
  return map.as<arch::PageDirectory>()->entries[arch::pd_index(va)].load();
}

void UserTables::write_pde(VirtAddr va, arch::PteValue value) {
  const auto at = window();
  if (!at) return set_directory_entry(directories_[arch::pdpt_index(va)], arch::pd_index(va), value);
  if (value.present())
    pde_in(*at, va).set(value);
  else
    pde_in(*at, va).clear();
}

Result<> UserTables::make_table(VirtAddr va, SpinLock& lock) {
  ASSERT(va < user_end());
  {
    const SpinGuard<NoIrq> guard{lock};
    if (read_pde(va).present()) return {};
  }
  if (must_fail(fault_user_table)) return std::unexpected(Error::OutOfMemory);
  Page* page = TRY(alloc_page(flags_of_table() | AllocFlags::Zero, Owner::PageTables));
  {
    const SpinGuard<NoIrq> guard{lock};
    if (!read_pde(va).present()) {
      write_pde(va, arch::make_table(address_of(page)).with(kUser | kDirty));
      ++table_pages_;
      return {};
    }
  }
  free_page(page);  // another thread was faster
  return {};
}

void UserTables::set_other_window(const UserTables* shown) {
  for (u32 slot = 0; slot < arch::kPdptSlots; ++slot) {
    arch::PteValue value{};
    if (shown != nullptr && shown->directories_[slot] != nullptr)
      value = window_value(address_of(shown->directories_[slot]));
    set_directory_entry(directories_[kLastSlot], arch::pd_index(arch::kUkvaOtherStart) + slot, value);
  }
}

void UserTables::open_other(UserTables& other) {
  ASSERT(other_ == nullptr && other.seen_by_ == nullptr && is_current());
  if (access_by != TableAccess::Window) return;
  set_other_window(&other);
  other_ = &other;
  other.seen_by_ = this;
}

void UserTables::close_other() {
  if (other_ == nullptr) return;
  other_->seen_by_ = nullptr;
  other_ = nullptr;
  set_other_window(nullptr);
}

TableView::TableView(UserTables& tables, VirtAddr va) : tables_(tables), va_(va) {
  const auto window = tables.window();
  const arch::PteValue pde = window ? pde_in(*window, va).own_value() : tables.read_pde(va);
  if (!pde.present()) return;
  page_ = pfn_to_page(frame_of(pde.address()));
  if (window) [[likely]] {
    entries_ = entry_in(*window, va.align_down(kLargePageSize));
    return;
  }
  kmaps.fetch_add(1, std::memory_order_relaxed);
  map_ = kmap_local_page(page_);
  entries_ = static_cast<arch::PageTable*>(map_)->entries;
}

TableView::~TableView() {
  if (map_ != nullptr) unmap_local(map_);
}

Page* TableView::detach() {
  ASSERT(is_empty());
  if (map_ != nullptr) unmap_local(map_);
  map_ = nullptr;
  entries_ = nullptr;
  tables_.write_pde(va_, arch::PteValue{});
  --tables_.table_pages_;
  return page_;
}

void init_user_tables(const CommandLine& options) {
  ASSERT(pdpts.init({.name = "pdpt", .size = sizeof(arch::Pdpt), .align = alignof(arch::Pdpt)}).has_value());
  LogLines complaints{LogLevel::Warning};
  static constexpr std::string_view kSwitch[] = {"on", "off"}, kPlace[] = {"high", "low"};
  if (options.choice("ukva", kSwitch, 0, complaints) == 1) access_by = TableAccess::Kmap;
  if (options.choice("pte", kPlace, 0, complaints) == 1) table_flags = AllocFlags::Kernel;
}

void set_table_access(TableAccess access) { access_by = access; }
TableAccess table_access() { return access_by; }
u32 table_kmaps() { return kmaps.load(std::memory_order_relaxed); }

}  // namespace paean
