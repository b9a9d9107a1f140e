// A backing store in memory, for tests of the page cache: contents are computed or kept, transfers end when and how the
// test wants them to.
#pragma once

#include <algorithm>

#include "mm/kmalloc.hpp"
#include "mm/page_cache.hpp"
#include "mm/vmalloc.hpp"
#include "threads.hpp"

namespace paean {

/// How a transfer ends.
enum class Answer : u8 {
  AtOnce,  // before the call returns
  Later,   // when the test calls answer()
};

/// The medium: bytes in vmalloc memory; behind them everything is zero and writes are dropped.
class FakeStore final : public BackingStore {
 public:
  explicit FakeStore(u32 bytes = 0) : bytes_(bytes) {
    if (bytes != 0) medium_ = static_cast<u8*>(*vzalloc(bytes));
  }
  ~FakeStore() {
    if (medium_ != nullptr) vfree(medium_);
  }
  FakeStore(const FakeStore&) = delete;
  FakeStore& operator=(const FakeStore&) = delete;

  std::span<u8> medium() const { return {medium_, bytes_}; }

  void read_folio(AddressSpace& space, Folio& folio) override {
    add(reads, 1);
    add(pages_read, folio.pages());
    if (folio.pages() > load(largest_read)) store(largest_read, folio.pages());
    if (answers_reads == Answer::Later) return hold(folio, Transfer::Read, {});
    finish_read(space, folio);
  }
  void write_folio(AddressSpace& space, Folio& folio) override {
    add(writes, 1);
    add(pages_written, folio.pages());
    const Result<> result = copy_to_medium(space, folio);  // what changes from here on does not go with it
    if (answers_writes == Answer::Later) return hold(folio, Transfer::Write, result);
    folio.end_write(result);
  }
  Result<> prepare_write(AddressSpace& /*space*/, u64 offset, u32 bytes) override {
    if (offset + bytes > room) return std::unexpected(Error::NoSpace);
    return {};
  }
  AllocFlags page_flags() const override { return flags; }
  Order largest_folio() const override { return largest; }
  bool writes_back() const override { return keeps == Keeps::OnMedium; }

  /// Ends the oldest transfer that is held; false if there is none. Any context.
  bool answer() {
    Held held;
    {
      const SpinGuard<IrqSave> guard{lock_};
      if (first_ == last_) return false;
      held = held_[first_++ % kMostHeld];
    }
    held.transfer == Transfer::Read ? finish_read(*held.folio->space(), *held.folio)
                                    : held.folio->end_write(held.result);
    return true;
  }
  u32 held() {
    const SpinGuard<IrqSave> guard{lock_};
    return last_ - first_;
  }

  enum class Keeps : u8 { OnMedium, InPages };
  Answer answers_reads = Answer::AtOnce, answers_writes = Answer::AtOnce;
  Keeps keeps = Keeps::OnMedium;
  AllocFlags flags = AllocFlags::HighUser;
  Order largest{4};
  u64 room = ~u64{0};                   // prepare_write refuses what lies behind
  u32 fail_reads = 0, fail_writes = 0;  // so many more
  Error write_failure = Error::Io;
  u32 reads = 0, writes = 0, pages_read = 0, pages_written = 0, largest_read = 0;

 private:
  enum class Transfer : u8 { Read, Write };
  struct Held {
    Folio* folio = nullptr;
    Transfer transfer{};
    Result<> result{};
  };
  static constexpr u32 kMostHeld = 4096;

  static bool take_one(u32& counter) {
    u32 left = load(counter);
    while (left != 0) {
      if (__atomic_compare_exchange_n(&counter, &left, left - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return true;
    }
    return false;
  }
  void hold(Folio& folio, Transfer transfer, Result<> result) {
    const SpinGuard<IrqSave> guard{lock_};
    ASSERT(last_ - first_ < kMostHeld);
    held_[last_++ % kMostHeld] = {&folio, transfer, result};
  }
  /// What the medium has of the n-th page of a folio.
  std::span<u8> part_of(const Folio& folio, u32 n, u64 limit) const {
    const u64 at = folio.offset() + PageCount{n}.bytes(), end = limit < bytes_ ? limit : bytes_;
    if (at >= end) return {};
    const u32 left = static_cast<u32>(end - at);
    return {medium_ + static_cast<u32>(at), left < kPageSize ? left : kPageSize};
  }
  void finish_read(const AddressSpace& space, Folio& folio) {
    if (take_one(fail_reads)) return folio.end_read(std::unexpected(Error::Io));
    for (u32 i = 0; bytes_ != 0 && i < folio.pages(); ++i) {
      const std::span<u8> part = part_of(folio, i, space.size());
      const KmapAtomic map{folio.page(i)};
      __builtin_memset(map.data(), 0, kPageSize);
      std::ranges::copy(part, map.bytes().begin());
    }
    folio.end_read({});
  }
  Result<> copy_to_medium(const AddressSpace& space, Folio& folio) {
    if (take_one(fail_writes)) return std::unexpected(write_failure);
    for (u32 i = 0; bytes_ != 0 && i < folio.pages(); ++i) {
      const std::span<u8> part = part_of(folio, i, pages_for(space.size()).bytes());
      const KmapAtomic map{folio.page(i)};
      std::ranges::copy(map.bytes().first(part.size()), part.begin());
    }
    return {};
  }

  u8* medium_ = nullptr;
  u32 bytes_;
  SpinLock lock_{LockRank::Test};
  Held held_[kMostHeld]{};
  u32 first_ = 0, last_ = 0;
};

/// A file on a fake store, emptied at its end. Both are too large for a stack.
class FakeFile {
 public:
  /// `kept` bytes on the medium; 0: a file of zeros whose writes go nowhere.
  explicit FakeFile(u32 kept, u64 size) : store(kept), space(store, size) {}
  ~FakeFile() { (void)space.truncate(0); }
  FakeStore store;
  AddressSpace space;
};

/// A FakeFile from the heap.
class FileHolder {
 public:
  explicit FileHolder(u32 kept, u64 size) {
    memory_ = *kmalloc(sizeof(FakeFile), AllocFlags::Kernel);
    file_ = new (memory_) FakeFile(kept, size);
  }
  ~FileHolder() {
    file_->~FakeFile();
    kfree(memory_);
  }
  FileHolder(const FileHolder&) = delete;
  FileHolder& operator=(const FileHolder&) = delete;
  FakeFile& operator*() const { return *file_; }
  FakeFile* operator->() const { return file_; }

 private:
  void* memory_;
  FakeFile* file_;
};

/// The byte at this place of a file that fill() made.
constexpr u8 pattern(u64 offset, u32 seed) {
  return static_cast<u8>((static_cast<u32>(offset) * 2654435761u >> 24) + (static_cast<u32>(offset) >> 12) + seed);
}
inline void fill(std::span<u8> bytes, u64 offset, u32 seed) {
  for (usize i = 0; i < bytes.size(); ++i) bytes[i] = pattern(offset + i, seed);
}
/// Bytes that differ from the pattern.
inline u32 differences(std::span<const u8> bytes, u64 offset, u32 seed) {
  u32 wrong = 0;
  for (usize i = 0; i < bytes.size(); ++i) wrong += bytes[i] != pattern(offset + i, seed);
  return wrong;
}

}  // namespace paean
