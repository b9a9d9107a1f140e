#include "kernel/fs/ext2_directory.hpp"

#include <algorithm>

namespace paean {

namespace {

/// 10 million short names. A directory beyond it takes minutes to search: nobody has one, but a torn size field might.
constexpr u32 kLargestDirectory = 256 * kMiB;

Ext2EntryRecord entry_at(std::span<const u8> bytes, u32 offset) {
  Ext2EntryRecord entry;
  __builtin_memcpy(&entry, bytes.data() + offset, sizeof entry);
  return entry;
}

void put_entry(std::span<u8> bytes, u32 offset, const Ext2EntryRecord& entry) {
  __builtin_memcpy(bytes.data() + offset, &entry, sizeof entry);
}

bool same_name(std::span<const u8> bytes, u32 offset, const Ext2EntryRecord& entry, std::string_view name) {
  return entry.inode != 0 && entry.length == name.size() &&
         __builtin_memcmp(bytes.data() + offset + sizeof entry, name.data(), name.size()) == 0;
}

}  // namespace

/// Where a name may go: `used` bytes of the entry at `place` stay its own.
struct Ext2Directory::Slot {
  u64 place = 0;
  u32 used = 0, room = 0;  // room 0: nowhere
};

bool Ext2Directory::sound(const Ext2EntryRecord& entry, u32 offset) const {
  const Ext2Geometry& geometry = volume_.geometry();
  const bool record =
      entry.record >= ext2_entry_bytes(1) && entry.record % 4 == 0 && entry.record <= geometry.block_bytes() - offset;
  if (!record || entry.inode == 0) return record;
  const bool type = geometry.file_types || entry.type == 0;
  return type && entry.length > 0 && ext2_entry_bytes(entry.length) <= entry.record && geometry.has_inode(entry.inode);
}

/// Calls `visit(bytes of the block, offset, entry)` for each entry, unused ones included, until it says Stop.
template <typename Visit>
Result<Ext2Directory::Step> Ext2Directory::walk(u32 block, Visit visit) {
  Step step = Step::Go;
  bool all_sound = true;
  const u32 end = volume_.geometry().block_bytes();
  TRY(volume_.view(volume_.geometry().offset_of(block), end, [&](std::span<const u8> bytes) {
    for (u32 offset = 0; offset < end && step == Step::Go;) {
      const Ext2EntryRecord entry =
          end - offset >= sizeof(Ext2EntryRecord) ? entry_at(bytes, offset) : Ext2EntryRecord{};
      all_sound = sound(entry, offset);
      if (!all_sound) return;
      step = visit(bytes, offset, entry);
      offset += entry.record;
    }
  }));
  if (!all_sound) return std::unexpected(volume_.corrupt("directory entries in block", block));
  return step;
}

Result<u32> Ext2Directory::blocks_of(const Ext2InodeRecord& directory) const {
  const Ext2Geometry& geometry = volume_.geometry();
  const u32 bytes = directory.size;
  const bool possible = bytes > 0 && bytes % geometry.block_bytes() == 0 && bytes <= kLargestDirectory &&
                        bytes >> 9 <= directory.blocks_512 && bytes >> geometry.block_shift <= geometry.blocks;
  if (!possible) return std::unexpected(volume_.corrupt("size of a directory", bytes));
  return bytes >> geometry.block_shift;
}

Result<u32> Ext2Directory::block_at(const Ext2InodeRecord& directory, u32 file_block) const {
  const Ext2Run run = TRY(inodes_.map(directory, file_block, 1));
  if (run.block == 0) return std::unexpected(volume_.corrupt("a hole in a directory at block", file_block));
  return run.block;
}

Result<Ext2Directory::Found> Ext2Directory::find(const Ext2InodeRecord& directory, std::string_view name) {
  const u32 blocks = TRY(blocks_of(directory));
  for (u32 i = 0; i < blocks; ++i) {
    const u32 block = TRY(block_at(directory, i));
    Found found;
    TRY(walk(block, [&](std::span<const u8> bytes, u32 offset, const Ext2EntryRecord& entry) {
      if (!same_name(bytes, offset, entry, name)) return Step::Go;
      found = {.inode = entry.inode, .place = volume_.geometry().offset_of(block) + offset};
      return Step::Stop;
    }));
    if (found.inode != 0) return found;
  }
  return std::unexpected(Error::NotFound);
}

/// One pass for both questions: is the name there, and where would it go.
Result<Ext2Directory::Slot> Ext2Directory::find_room(const Ext2InodeRecord& directory, std::string_view name) {
  const u32 wanted = ext2_entry_bytes(static_cast<u32>(name.size()));
  const u32 blocks = TRY(blocks_of(directory));
  Slot slot;
  for (u32 i = 0; i < blocks; ++i) {
    const u32 block = TRY(block_at(directory, i));
    bool exists = false;
    TRY(walk(block, [&](std::span<const u8> bytes, u32 offset, const Ext2EntryRecord& entry) {
      exists = same_name(bytes, offset, entry, name);
      const u32 used = entry.inode == 0 ? 0 : ext2_entry_bytes(entry.length);
      if (slot.room == 0 && entry.record - used >= wanted) {
        slot = {.place = volume_.geometry().offset_of(block) + offset, .used = used, .room = entry.record};
      }
      return exists ? Step::Stop : Step::Go;
    }));
    if (exists) return std::unexpected(Error::Exists);
  }
  return slot;
}

Result<> Ext2Directory::fill(u64 place, u32 used, u32 room, std::string_view name, u32 inode, Ext2EntryType type) {
  return volume_.change(place, room, [&](std::span<u8> bytes) {
    if (used > 0) {
      Ext2EntryRecord before = entry_at(bytes, 0);
      before.record = static_cast<u16>(used);
      put_entry(bytes, 0, before);
    }
    put_entry(bytes, used,
              {.inode = inode,
               .record = static_cast<u16>(room - used),
               .length = static_cast<u8>(name.size()),
               .type = type_byte(type)});
    __builtin_memcpy(bytes.data() + used + sizeof(Ext2EntryRecord), name.data(), name.size());
  });
}

/// A new block, which is one unused entry.
Result<u32> Ext2Directory::extend(u32 number, Ext2InodeRecord& directory) {
  const Ext2Geometry& geometry = volume_.geometry();
  if (directory.size > kLargestDirectory - geometry.block_bytes()) return std::unexpected(Error::TooLarge);
  const u32 file_block = directory.size >> geometry.block_shift;
  const Ext2NewBlock found = TRY(inodes_.need(number, directory, file_block, Ext2Inodes::Use::Table));
  TRY(volume_.change(geometry.offset_of(found.block), geometry.block_bytes(), [&](std::span<u8> bytes) {
    __builtin_memset(bytes.data(), 0, bytes.size());
    put_entry(bytes, 0, {.inode = 0, .record = static_cast<u16>(bytes.size()), .length = 0, .type = 0});
  }));
  directory.size += geometry.block_bytes();
  return found.block;
}

void Ext2Directory::touch(Ext2InodeRecord& directory) const {
  directory.flags &= ~kExt2FlagIndexed;
  directory.modified = directory.changed = volume_.store().now();
}

Result<> Ext2Directory::add(u32 number, Ext2InodeRecord& directory, std::string_view name, u32 inode,
                            Ext2EntryType type) {
  TRY(volume_.writable());
  Slot slot = TRY(find_room(directory, name));
  if (slot.room == 0) {
    const u32 block = TRY(extend(number, directory));
    slot = {.place = volume_.geometry().offset_of(block), .used = 0, .room = volume_.geometry().block_bytes()};
  }
  TRY(fill(slot.place, slot.used, slot.room, name, inode, type));
  touch(directory);
  return {};
}

Result<> Ext2Directory::remove(Ext2InodeRecord& directory, std::string_view name, u32 inode) {
  TRY(volume_.writable());
  const Found found = TRY(find(directory, name));
  if (found.inode != inode) return std::unexpected(Error::NotFound);
  const u32 block_bytes = volume_.geometry().block_bytes();
  const u32 at = static_cast<u32>(found.place) & (block_bytes - 1);
  TRY(volume_.change(found.place - at, block_bytes, [&](std::span<u8> bytes) {
    u32 before = 0;
    for (u32 offset = 0; offset < at; offset += std::max<u32>(entry_at(bytes, offset).record, 4)) before = offset;
    Ext2EntryRecord gone = entry_at(bytes, at);
    if (at == 0) {
      gone.inode = 0;
      put_entry(bytes, 0, gone);
      return;
    }
    Ext2EntryRecord longer = entry_at(bytes, before);
    longer.record = static_cast<u16>(longer.record + gone.record);
    put_entry(bytes, before, longer);
  }));
  touch(directory);
  return {};
}

Result<> Ext2Directory::replace(Ext2InodeRecord& directory, u64 place, u32 inode, Ext2EntryType type) {
  TRY(volume_.writable());
  TRY(volume_.change(place, sizeof(Ext2EntryRecord), [&](std::span<u8> bytes) {
    Ext2EntryRecord entry = entry_at(bytes, 0);
    entry.inode = inode;
    entry.type = type_byte(type);
    put_entry(bytes, 0, entry);
  }));
  touch(directory);
  return {};
}

Result<> Ext2Directory::make(u32 number, Ext2InodeRecord& directory, u32 parent) {
  const u32 block = TRY(extend(number, directory));
  const u64 place = volume_.geometry().offset_of(block);
  TRY(fill(place, 0, volume_.geometry().block_bytes(), ".", number, Ext2EntryType::Directory));
  return fill(place, ext2_entry_bytes(1), volume_.geometry().block_bytes(), "..", parent, Ext2EntryType::Directory);
}

Result<bool> Ext2Directory::empty(const Ext2InodeRecord& directory) {
  Ext2Entry entry;
  for (u64 cursor = 0;;) {
    const Result<> found = next(directory, cursor, entry);
    if (!found && found.error() == Error::NotFound) return true;
    TRY(found);
    if (entry.name() != "." && entry.name() != "..") return false;
  }
}

Result<> Ext2Directory::next(const Ext2InodeRecord& directory, u64& cursor, Ext2Entry& into) {
  const Ext2Geometry& geometry = volume_.geometry();
  const u32 blocks = TRY(blocks_of(directory));
  while (cursor >> geometry.block_shift < blocks) {
    const u32 index = static_cast<u32>(cursor >> geometry.block_shift);
    const u32 from = static_cast<u32>(cursor) & (geometry.block_bytes() - 1);
    const u32 block = TRY(block_at(directory, index));
    const Step step = TRY(walk(block, [&](std::span<const u8> bytes, u32 offset, const Ext2EntryRecord& entry) {
      if (offset < from || entry.inode == 0) return Step::Go;
      into.inode = entry.inode;
      into.type = geometry.file_types && entry.type <= static_cast<u8>(Ext2EntryType::Symlink)
                      ? static_cast<Ext2EntryType>(entry.type)
                      : Ext2EntryType::Unknown;
      into.place = geometry.offset_of(block) + offset;
      into.length = entry.length;
      __builtin_memcpy(into.text, bytes.data() + offset + sizeof entry, entry.length);
      cursor = geometry.offset_of(index) + offset + entry.record;
      return Step::Stop;
    }));
    if (step == Step::Stop) {
      if (into.name().find('/') == std::string_view::npos) return {};
      return std::unexpected(volume_.corrupt("a name with a slash in block", block));
    }
    cursor = geometry.offset_of(index + 1);
  }
  return std::unexpected(Error::NotFound);
}

}  // namespace paean
