// What one does with files, by path or by open file. The calls that system calls and console commands are made of.
//
//   OpenFile* file = TRY(open_file("/etc/motd", OpenMode::Read));
//   const u32 got = TRY(read_file(*file, buffer));
//   close_file(file);
//
// Paths: absolute or relative to `/`; `.`, `..`, repeated slashes and symbolic links (40 at most) as in POSIX; names up
// to 255 bytes, paths up to 4095. All may sleep. An open file belongs to one thread at a time; calls with positions of
// the caller's may come from several. Rights of users are not looked at: there is one user.
// Errors: as POSIX; InvalidArgument also where a file was not opened for what is wanted.
#pragma once

#include <optional>

#include "kernel/fs/vfs.hpp"

namespace paean {

/// A set of bits, as O_* are.
enum class OpenMode : u32 {
  Read = 1,
  Write = 2,
  Create = 4,
  Exclusive = 8,  // with Create: Exists if it is there
  Truncate = 16,
  Append = 32,
  Directory = 64,  // NotDirectory otherwise
};
constexpr OpenMode operator|(OpenMode a, OpenMode b) {
  return static_cast<OpenMode>(static_cast<u32>(a) | static_cast<u32>(b));
}

class OpenFile;
Result<OpenFile*> open_file(std::string_view path, OpenMode mode, u16 permissions = 0644);
void close_file(OpenFile* file);
/// At the file's position, which moves. Fewer bytes than asked for only at the end, or before an error.
Result<u32> read_file(OpenFile& file, CopyTarget into);
Result<u32> write_file(OpenFile& file, CopySource from);
/// At a position of the caller's; the file's own stays.
Result<u32> read_file_at(OpenFile& file, u64 offset, CopyTarget into);
Result<u32> write_file_at(OpenFile& file, u64 offset, CopySource from);
enum class SeekFrom : u8 { Start, Current, End };
/// The new position. InvalidArgument before the start.
Result<u64> seek_file(OpenFile& file, i64 distance, SeekFrom from);
Result<> truncate_file(OpenFile& file, u64 size);
/// Each open file hears of every write-back error of its file, once.
Result<> sync_file(OpenFile& file);
Inode& file_inode(OpenFile& file);
/// Entries from the file's position on; false from the visitor stops before the next one.
Result<> read_directory(OpenFile& directory, DirectoryVisitor visit, void* context);

struct FileStatus {
  FileType type;
  u16 permissions;
  u32 inode, links, uid, gid, device;
  u64 size, blocks_512;
  u32 accessed, modified, changed;
};
enum class Links : u8 { Follow, DoNotFollow };
Result<FileStatus> status_of(std::string_view path, Links links = Links::Follow);
FileStatus status_of(OpenFile& file);

/// What is to be different; what has no value stays.
struct FileChange {
  std::optional<u16> permissions{};
  std::optional<u32> uid{}, gid{};
  std::optional<u32> accessed{}, modified{};
};
Result<> change_file(std::string_view path, const FileChange& change, Links links = Links::Follow);
Result<> change_file(OpenFile& file, const FileChange& change);

Result<> make_directory(std::string_view path, u16 permissions = 0755);
Result<> remove_file(std::string_view path);
Result<> remove_directory(std::string_view path);
/// Replaces what has the new name, if POSIX allows it.
Result<> rename_file(std::string_view from, std::string_view to);
Result<> link_file(std::string_view existing, std::string_view path);
Result<> make_symlink(std::string_view target, std::string_view path);
Result<u32> read_symlink(std::string_view path, std::span<char> into);
Result<> truncate_path(std::string_view path, u64 size);
/// Of the file system that the path lies in.
Result<FsStatistics> statistics_of(std::string_view path);

}  // namespace paean
