// The parts of tmpfs: numbers, and the names in one directory.
#include <memory>

#include "kernel/fs/tmpfs.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kNone = ~0u;

}  // namespace

TmpEntry* TmpDirectory::find(std::string_view name) {
  const auto at = by_name.find(name);
  return at == by_name.end() ? nullptr : &*at;
}

void TmpDirectory::add(TmpEntry& entry) {
  entry.age = next_age++;
  by_name.insert(entry);
  by_age.insert(by_age.end(), entry);
}

void TmpDirectory::remove(TmpEntry& entry) {
  by_name.erase(by_name.iterator_to(entry));
  by_age.erase(by_age.iterator_to(entry));
  std::destroy_at(&entry);
  kfree(&entry);
}

NodeTable::~NodeTable() {
  for (Chunk* chunk : chunks_) kfree(chunk);
}

NodeTable::Slot& NodeTable::slot(u32 number) { return chunks_[(number - 1) / kChunk]->slots[(number - 1) % kChunk]; }

Result<u32> NodeTable::reserve() {
  while (lowest_ < kChunks && chunks_[lowest_] != nullptr && chunks_[lowest_]->first_free == kNone) ++lowest_;
  if (lowest_ == kChunks) return std::unexpected(Error::NoSpace);
  Chunk*& chunk = chunks_[lowest_];
  if (chunk == nullptr) {
    chunk = static_cast<Chunk*>(TRY(kmalloc(sizeof(Chunk), AllocFlags::Kernel)));
    chunk->used = chunk->first_free = 0;
    for (u32 i = 0; i < kChunk; ++i) chunk->slots[i] = {nullptr, i + 1 < kChunk ? i + 1 : kNone};
  }
  const u32 index = chunk->first_free;
  chunk->first_free = chunk->slots[index].next_free;
  ++chunk->used;
  ++used_;
  return lowest_ * kChunk + index + 1;
}

void NodeTable::release(u32 number) {
  const u32 at = (number - 1) / kChunk, index = (number - 1) % kChunk;
  Chunk*& chunk = chunks_[at];
  chunk->slots[index] = {nullptr, chunk->first_free};
  chunk->first_free = index;
  --used_;
  if (at < lowest_) lowest_ = at;
  if (--chunk->used == 0) {
    kfree(chunk);
    chunk = nullptr;
  }
}

TmpNode* NodeTable::next(u32 number) {
  for (u32 at = number - 1; at < kMaxNodes; ++at) {
    Chunk* chunk = chunks_[at / kChunk];
    if (chunk != nullptr && chunk->slots[at % kChunk].node != nullptr) return chunk->slots[at % kChunk].node;
  }
  return nullptr;
}

}  // namespace paean
