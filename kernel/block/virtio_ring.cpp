#include "kernel/block/virtio_ring.hpp"

#include "lib/assert.hpp"

namespace paean {

namespace {

constexpr u16 kNext = 1, kDeviceWrites = 2;
constexpr u16 kNoNotify = 1;

}  // namespace

void VirtioRing::init(void* memory, std::span<Record> records) {
  records_ = records;
  auto* bytes = static_cast<u8*>(memory);
  __builtin_memset(bytes, 0, bytes_for(size()));
  descriptors_ = static_cast<Descriptor*>(memory);
  available_ = reinterpret_cast<Available*>(bytes + available_offset(size()));
  used_ = reinterpret_cast<UsedRing*>(bytes + used_offset(size()));
  for (u32 i = 0; i < size(); ++i) records_[i] = Record{static_cast<u16>(i + 1), 0, 0, 0};
  first_free_ = 0;
  free_ = size();
  in_flight_ = 0;
  chain_ = Record{};
  next_available_ = next_used_ = 0;
}

void VirtioRing::put(const VirtioPiece& piece) {
  ASSERT(free_ != 0);
  const u16 at = first_free_;
  first_free_ = records_[at].next;
  --free_;
  if (chain_.count == 0) {
    chain_first_ = at;
  } else {
    descriptors_[chain_last_].flags |= kNext;
    descriptors_[chain_last_].next = at;
    records_[chain_last_].next = at;
  }
  const bool writes = piece.written == VirtioPiece::By::Device;
  descriptors_[at] = Descriptor{piece.start, piece.bytes, writes ? kDeviceWrites : u16{0}, 0};
  chain_last_ = at;
  ++chain_.count;
  if (writes) chain_.writable += piece.bytes;
}

void VirtioRing::commit(u32 tag) {
  ASSERT(chain_.count != 0);
  Record& record = records_[chain_first_];
  record.count = chain_.count;
  record.writable = chain_.writable;
  record.tag = tag;
  chain_ = Record{};
  ++in_flight_;
  available_->heads[next_available_ & (size() - 1)] = chain_first_;
  ++next_available_;
}

bool VirtioRing::publish() {
  __atomic_store_n(&available_->index, next_available_, __ATOMIC_RELEASE);
  // The device looks at the index after it has set the flag; we look at the flag after we have set the index.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return (__atomic_load_n(&used_->flags, __ATOMIC_RELAXED) & kNoNotify) == 0;
}

Result<std::optional<VirtioRing::Used>> VirtioRing::take() {
  const u16 index = __atomic_load_n(&used_->index, __ATOMIC_ACQUIRE);
  const u16 done = static_cast<u16>(index - next_used_);
  if (done == 0) return std::optional<Used>{};
  if (done > in_flight_) return std::unexpected(Error::Corrupt);
  const UsedEntry& entry = used_->entries[next_used_ & (size() - 1)];
  const u32 head = __atomic_load_n(&entry.head, __ATOMIC_RELAXED);
  const u32 bytes = __atomic_load_n(&entry.bytes, __ATOMIC_RELAXED);
  if (head >= size() || records_[head].count == 0 || bytes > records_[head].writable)
    return std::unexpected(Error::Corrupt);
  Record& record = records_[head];
  u16 last = static_cast<u16>(head);
  for (u32 i = 1; i < record.count; ++i) last = records_[last].next;
  records_[last].next = first_free_;
  first_free_ = static_cast<u16>(head);
  free_ += record.count;
  record.count = 0;
  --in_flight_;
  ++next_used_;
  return Used{record.tag, bytes};
}

}  // namespace paean
