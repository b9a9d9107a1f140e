// An ext2 volume in the host's memory, made by mke2fs and judged by e2fsck; and what a kernel would do around the core.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "kernel/fs/ext2_core.hpp"

namespace paean::host {

/// A directory of this process below /tmp, gone at its end.
class ScratchFolder {
 public:
  static const std::string& path() {
    static ScratchFolder folder;
    return folder.path_;
  }

 private:
  ScratchFolder() {
    char name[] = "/tmp/paean-ext2-XXXXXX";
    if (mkdtemp(name) == nullptr) std::abort();
    path_ = name;
  }
  ~ScratchFolder() { [[maybe_unused]] const int status = std::system(("rm -rf " + path_).c_str()); }
  std::string path_;
};

/// The exit status of a command, with its output in scratch file `output`.
inline int run_tool(const std::string& command, const std::string& output = "output") {
  const std::string line =
      "PATH=$PATH:/usr/sbin:/sbin; " + command + " > " + ScratchFolder::path() + "/" + output + " 2>&1";
  const int status = std::system(line.c_str());
  return status == -1 ? -1 : (status >> 8) & 0xff;
}

/// All of a file at once: images have millions of bytes, and under the sanitizers an iterator costs 100 ns for each.
inline std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  std::string text(static_cast<std::size_t>(file.tellg()), '\0');
  file.seekg(0);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  return text;
}

/// Bytes in memory as a store, which checks what a caller may ask for.
class ImageStore final : public Ext2Store {
 public:
  explicit ImageStore(std::vector<u8> image) : image_(std::move(image)) {}

  Result<> view(u64 offset, u32 bytes, Viewer viewer, void* context) override {
    const Result<> sane = check(offset, bytes);
    if (sane) viewer(context, std::span<const u8>(image_).subspan(offset, bytes));
    return sane;
  }
  Result<> change(u64 offset, u32 bytes, Changer changer, void* context) override {
    const Result<> sane = check(offset, bytes);
    if (sane) changer(context, std::span<u8>(image_).subspan(offset, bytes));
    ++changes_;
    return sane;
  }
  void forget(u32) override {}
  Result<> sync() override {
    ++syncs_;
    return syncs;
  }
  u32 now() override { return now_; }
  void complain(std::string_view what) override {
    ++complaints_;
    complaint_ = std::string(what);
  }

  std::vector<u8>& image() { return image_; }
  u32 calls() const { return calls_; }
  u32 changes() const { return changes_; }
  u32 sync_calls() const { return syncs_; }
  u32 complaints() const { return complaints_; }
  const std::string& complaint() const { return complaint_; }
  /// Every call from the nth on fails; 0: none.
  void fail_from(u32 call) { fail_from_ = call == 0 ? 0 : calls_ + call; }
  /// As in a cache that has nothing now, holds so many blocks of 1 KiB, and has no memory for one: the nth that is not
  /// there cannot be had, once. 0: none.
  void miss(u32 nth, u32 cache_blocks = ~0u) {
    cached_.clear();
    cache_blocks_ = cache_blocks;
    miss_ = nth;
  }
  bool has_missed() const { return miss_ == 0; }
  Result<> syncs{};  // what sync() says

 private:
  Result<> check(u64 offset, u32 bytes) {
    ++calls_;
    if (fail_from_ != 0 && calls_ >= fail_from_) return std::unexpected(Error::Io);
    if (bytes == 0 || bytes > 4096 || offset / 4096 != (offset + bytes - 1) / 4096) std::abort();
    if (offset + bytes > image_.size()) return std::unexpected(Error::Io);
    if (miss_ != 0 && !touch(offset / kKiB) && --miss_ == 0) return std::unexpected(Error::OutOfMemory);
    return {};
  }
  /// False if it was not there.
  bool touch(u64 block) {
    const bool found = std::erase(cached_, block) != 0;
    cached_.push_back(block);
    if (cached_.size() > cache_blocks_) cached_.erase(cached_.begin());
    return found;
  }
  std::vector<u8> image_;
  std::vector<u64> cached_;  // the one used last is the last one
  u32 cache_blocks_ = ~0u;
  u32 miss_ = 0;
  u32 calls_ = 0, changes_ = 0, syncs_ = 0, complaints_ = 0, fail_from_ = 0;
  u32 now_ = 1'700'000'000;
  std::string complaint_;
};

/// An image by mke2fs with these options; empty if it failed.
inline std::vector<u8> make_image(const std::string& options, u32 kib) {
  const std::string path = ScratchFolder::path() + "/made.img";
  std::remove(path.c_str());
  if (run_tool("mke2fs -q -F -t ext2 " + options + " " + path + " " + std::to_string(kib)) != 0) return {};
  const std::string text = text_of(path);
  return {text.begin(), text.end()};
}

/// 0: e2fsck finds nothing to say against it. Its words are in the scratch file `output`.
inline int check_image(const std::vector<u8>& image) {
  const std::string path = ScratchFolder::path() + "/checked.img";
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(image.data()), image.size());
  const int status = run_tool("e2fsck -fn " + path);
  if (status != 0) std::fprintf(stderr, "%s\n", text_of(ScratchFolder::path() + "/output").c_str());
  return status;
}

/// Writes as the page cache would: whole blocks, of which a fresh one begins as zeros.
inline Result<> write_at(Ext2& fs, ImageStore& store, u32 inode, u64 offset, std::span<const u8> from) {
  const Ext2Geometry& geometry = fs.geometry();
  while (!from.empty()) {
    const u32 inside = static_cast<u32>(offset & (geometry.block_bytes() - 1));
    const u32 now = std::min<u32>(geometry.block_bytes() - inside, from.size());
    const Ext2NewBlock found =
        TRY(fs.need_block(inode, static_cast<u32>(offset >> geometry.block_shift), offset + now));
    u8* block = store.image().data() + geometry.offset_of(found.block);
    if (found.age == Ext2NewBlock::Age::Fresh) std::memset(block, 0, geometry.block_bytes());
    std::memcpy(block + inside, from.data(), now);
    from = from.subspan(now);
    offset += now;
  }
  return {};
}

/// Everything in a file, at most `limit` bytes.
inline Result<std::string> contents_of(Ext2& fs, ImageStore& store, u32 inode, u64 limit = 1u << 28) {
  const Ext2InodeRecord record = TRY(fs.load(inode));
  const Ext2Geometry& geometry = fs.geometry();
  const u64 size = std::min(Ext2Inodes::size_of(record), limit);
  std::string text(size, '\0');
  for (u64 at = 0; at < size;) {
    const u32 left = static_cast<u32>((size - at + geometry.block_bytes() - 1) >> geometry.block_shift);
    const Ext2Run run = TRY(fs.map(record, static_cast<u32>(at >> geometry.block_shift), left));
    const u64 bytes = std::min(u64{run.blocks} << geometry.block_shift, size - at);
    if (run.block != 0) {
      if (geometry.offset_of(run.block) + bytes > store.image().size()) return std::unexpected(Error::Io);
      std::memcpy(text.data() + at, store.image().data() + geometry.offset_of(run.block), bytes);
    }
    at += bytes;
  }
  return text;
}

/// Shrinks or grows as the kernel would: what lies behind the end in the last block becomes zeros.
inline Result<> truncate_to(Ext2& fs, ImageStore& store, u32 inode, u64 size) {
  TRY(fs.truncate(inode, size));
  const Ext2Geometry& geometry = fs.geometry();
  const u32 inside = static_cast<u32>(size & (geometry.block_bytes() - 1));
  if (inside == 0) return {};
  const Ext2InodeRecord record = TRY(fs.load(inode));
  const Ext2Run run = TRY(fs.map(record, static_cast<u32>(size >> geometry.block_shift), 1));
  if (run.block != 0) {
    std::memset(store.image().data() + geometry.offset_of(run.block) + inside, 0, geometry.block_bytes() - inside);
  }
  return {};
}

}  // namespace paean::host
