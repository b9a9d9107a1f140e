#include "kernel/fs/path.hpp"

#include <algorithm>

#include "kernel/fs/name_cache.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

PathWalk::~PathWalk() { kfree(spliced_); }

Result<> PathWalk::begin(std::string_view path) {
  if (path.empty()) return std::unexpected(Error::NotFound);
  if (path.size() > kMaxPath) return std::unexpected(Error::NameTooLong);
  rest_ = path;
  directory_ = MountTable::start();
  return {};
}

/// The next name, and the slashes behind it, off the front of what is left. Empty at the end.
Result<std::string_view> PathWalk::take_name() {
  while (rest_.starts_with('/')) rest_.remove_prefix(1);
  usize length = 0;
  while (length < rest_.size() && rest_[length] != '/') ++length;
  if (length > kMaxName) return std::unexpected(Error::NameTooLong);
  const std::string_view name{rest_.data(), length};
  rest_.remove_prefix(length);
  wants_directory_ = rest_.starts_with('/');
  while (rest_.starts_with('/')) rest_.remove_prefix(1);
  return name;
}

Result<InodeRef> PathWalk::step(std::string_view name) {
  if (name.empty() || name == ".") return directory_.clone();
  if (name == "..") return MountTable::parent_of(directory_.clone());
  return step_to(*directory_, name);
}

Result<InodeRef> PathWalk::find_last() { return step(last_); }

Result<> PathWalk::to_last() {
  while (true) {
    last_ = TRY(take_name());
    if (rest_.empty()) return {};
    InodeRef next = TRY(step(last_));
    if (next->type == FileType::Symlink) {
      TRY(follow(*next));
    } else if (next->type == FileType::Directory) {
      directory_ = std::move(next);
    } else {
      return std::unexpected(Error::NotDirectory);
    }
  }
}

Result<> PathWalk::follow(Inode& link) {
  if (++links_ > kMaxLinksInPath) return std::unexpected(Error::TooManyLinks);
  const u32 rest = static_cast<u32>(rest_.size());
  void* room = TRY(kmalloc(kMaxPath + 1, AllocFlags::Kernel));
  auto* const text = static_cast<char*>(room);
  const Result<u32> length = link.super->read_link(link, {text, kMaxPath});
  const u32 slash = wants_directory_ ? 1 : 0;
  if (!length || *length == 0 || *length + slash + rest > kMaxPath) {
    kfree(text);
    return std::unexpected(!length ? length.error() : *length == 0 ? Error::NotFound : Error::NameTooLong);
  }
  if (slash != 0) text[*length] = '/';
  std::copy(rest_.begin(), rest_.end(), text + *length + slash);
  kfree(spliced_);
  spliced_ = text;
  rest_ = {text, *length + slash + rest};
  if (rest_.starts_with('/')) directory_ = MountTable::start();
  return {};
}

Result<InodeRef> resolve(std::string_view path, Links links) {
  PathWalk walk;
  TRY(walk.begin(path));
  while (true) {
    TRY(walk.to_last());
    InodeRef found = TRY(walk.find_last());
    if (found->type == FileType::Symlink && (links == Links::Follow || walk.wants_directory())) {
      TRY(walk.follow(*found));
      continue;
    }
    if (walk.wants_directory() && found->type != FileType::Directory) return std::unexpected(Error::NotDirectory);
    return found;
  }
}

}  // namespace paean
