// Damages an ext2 image where it hurts: fields of the superblock, descriptors, bitmaps, inodes, directory entries and
// blocks of pointers, with numbers that are wrong in interesting ways. And what a stranger then does with the volume.
//
// `Source` has below(limit): a random number generator, or the input of a fuzzer.
#pragma once

#include <functional>

#include "ext2_image.hpp"

namespace paean::host {

template <typename Source>
class Ext2Mutator {
 public:
  Ext2Mutator(std::vector<u8>& image, Source& source) : image_(image), source_(source) {
    std::memcpy(&super_, image.data() + kExt2SuperOffset, sizeof super_);
    shift_ = 10 + super_.log_block_kib;
    std::memcpy(&group_, at_block(super_.first_data_block + 1), sizeof group_);
  }

  void damage() {
    switch (source_.below(8)) {
      case 0: return put(kExt2SuperOffset + source_.below(sizeof(Ext2SuperRecord) / 4) * 4);
      case 1: return put(offset_of(super_.first_data_block + 1) + source_.below(8) * 4);
      case 2:
        return put(offset_of(source_.below(2) == 0 ? group_.block_bitmap : group_.inode_bitmap) +
                   source_.below(32) * 4);
      case 3:
      case 4: return put(some_inode() + source_.below(sizeof(Ext2InodeRecord) / 4) * 4);
      case 5: return put(some_inode() + offsetof(Ext2InodeRecord, block) + source_.below(kExt2Pointers) * 4);
      case 6: return damage_entry();
      default: return put(offset_of(some_block()) + source_.below(64) * 4);
    }
  }

 private:
  u64 offset_of(u32 block) const { return u64{block} << shift_; }
  u8* at_block(u32 block) { return image_.data() + offset_of(block); }
  u64 some_inode() {
    const u32 inode = source_.below(3) == 0 ? kExt2RootInode : 1 + source_.below(24);
    return offset_of(group_.inode_table) + u64{inode - 1} * (super_.revision == 0 ? 128 : super_.inode_bytes);
  }
  /// A block that some file of the first inodes points to; so tables of pointers and directories are met.
  u32 some_block() {
    Ext2InodeRecord record;
    std::memcpy(&record, image_.data() + some_inode(), sizeof record);
    const u32 choice = source_.below(8);
    return record.block[choice < 3 ? kExt2DirectBlocks + choice : choice - 3];
  }
  /// One entry of a directory's first block; 8 headers are enough to reach those that matter.
  void damage_entry() {
    u64 place = offset_of(some_block());
    for (u32 steps = source_.below(8); steps > 0; --steps) {
      if (place + 8 > image_.size()) return;
      Ext2EntryRecord entry;
      std::memcpy(&entry, image_.data() + place, sizeof entry);
      place += entry.record;
    }
    put(place + source_.below(3) * 4);
  }
  void put(u64 offset) {
    if (offset + 4 > image_.size()) return;
    u32 value;
    std::memcpy(&value, image_.data() + offset, 4);
    switch (source_.below(10)) {
      case 0: value = 0; break;
      case 1: value = ~0u; break;
      case 2: value = 1; break;
      case 3: value = super_.blocks - source_.below(2); break;
      case 4: value = some_block(); break;
      case 5: value = group_.block_bitmap + source_.below(4); break;
      case 6: value ^= 1u << source_.below(32); break;
      case 7: value = (value & 0xffff0000) | source_.below(65536); break;
      case 8: value = (value & 0xffff) | source_.below(65536) << 16; break;
      default: value = source_.below(65536) * source_.below(65536); break;
    }
    std::memcpy(image_.data() + offset, &value, 4);
  }

  std::vector<u8>& image_;
  Source& source_;
  Ext2SuperRecord super_;
  Ext2GroupRecord group_;
  u32 shift_ = 0;
};

/// Walks a volume that may be anything and changes it. Errors are expected; what is asked of the store stays bounded.
template <typename Source>
class Ext2Stranger {
 public:
  Ext2Stranger(ImageStore& store, Source& source) : store_(store), source_(source), fs_(store) {}

  void run(u32 operations) {
    const Result<> mounted = fs_.mount(store_.image().size(), Ext2Mode::ReadWrite);
    if (!mounted) return;
    known_.push_back({kExt2RootInode, kExt2RootInode, "."});
    walk(kExt2RootInode, 0);
    for (u32 i = 0; i < operations; ++i) change();
    (void)fs_.write_super();
    (void)fs_.unmount();
  }

 private:
  struct Name {
    u32 directory, inode;
    std::string name;
  };

  void walk(u32 directory, u32 depth) {
    Ext2Entry entry;
    for (u64 cursor = 0; known_.size() < 100 && fs_.next_entry(directory, cursor, entry);) {
      const Result<Ext2InodeRecord> record = fs_.load(entry.inode);
      if (!record) continue;
      known_.push_back({directory, entry.inode, std::string(entry.name())});
      char target[64];
      (void)fs_.read_link(entry.inode, target);
      (void)contents_of(fs_, store_, entry.inode, 1 << 20);
      const bool folder = ext2_entry_type(record->mode) == Ext2EntryType::Directory;
      if (folder && depth < 4 && entry.name() != "." && entry.name() != "..") walk(entry.inode, depth + 1);
    }
  }

  void change() {
    const Name some = known_[source_.below(static_cast<u32>(known_.size()))];
    const Name other = known_[source_.below(static_cast<u32>(known_.size()))];
    const std::string name = "n" + std::to_string(source_.below(20));
    const u8 bytes[40] = {1, 2, 3};
    switch (source_.below(10)) {
      case 0: return note(some.inode, name, fs_.create(some.inode, name, kExt2ModeFile | 0644));
      case 1: return note(some.inode, name, fs_.make_directory(some.inode, name, 0755));
      case 2: return note(some.inode, name, fs_.make_symlink(some.inode, name, std::string(source_.below(200), 't')));
      case 3: return (void)fs_.link(some.inode, name, other.inode);
      case 4:
      case 5: return remove(some);
      case 6: return (void)fs_.rename(some.directory, some.name, other.inode, name, some.inode);
      case 7: return (void)fs_.rename(some.directory, some.name, other.directory, other.name, some.inode);
      case 8: return (void)fs_.truncate(some.inode, source_.below(4) == 0 ? 0 : source_.below(100'000));
      default: return write(some.inode, u64{source_.below(65536)} * (source_.below(2) == 0 ? 4 : 40'000), bytes);
    }
  }
  /// As the page cache would, but only into blocks that are there.
  void write(u32 inode, u64 offset, std::span<const u8> bytes) {
    const Result<Ext2InodeRecord> record = fs_.load(inode);
    if (record && ext2_entry_type(record->mode) == Ext2EntryType::File) {
      (void)write_at(fs_, store_, inode, offset, bytes);
    }
  }
  void remove(const Name& some) {
    const Result<Ext2InodeRecord> record = fs_.load(some.inode);
    if (!record) return;
    const bool folder = ext2_entry_type(record->mode) == Ext2EntryType::Directory;
    const Result<> removed = folder ? fs_.remove_directory(some.directory, some.name, some.inode)
                                    : fs_.unlink(some.directory, some.name, some.inode);
    if (removed && (folder || record->links == 1)) (void)fs_.evict(some.inode);
  }
  void note(u32 directory, const std::string& name, const Result<u32>& inode) {
    if (inode && known_.size() < 200) known_.push_back({directory, *inode, name});
  }

  ImageStore& store_;
  Source& source_;
  Ext2 fs_;
  std::vector<Name> known_;
};

/// A small volume with one of everything: holes, links, directories, pointers of all depths.
inline std::vector<u8> make_small_image(const std::string& options) {
  const std::string folder = ScratchFolder::path() + "/small";
  run_tool("mkdir -p " + folder + "/d/e; head -c 300000 /dev/urandom > " + folder +
           "/big; head -c 20000 /dev/urandom > " + folder + "/d/some; ln -sf d/some " + folder + "/link; ln -sf " +
           std::string(90, 'l') + " " + folder + "/slow; ln -f " + folder + "/d/some " + folder +
           "/hard; truncate -s 80M " + folder + "/holes; printf x >> " + folder + "/holes; rm -f " + folder +
           "/fifo; mkfifo " + folder + "/fifo; for i in 1 2 3 4 5; do : > " + folder + "/d/e/name-$i; done");
  return make_image(options + " -d " + folder, 1024);
}

}  // namespace paean::host
