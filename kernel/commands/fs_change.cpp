// Changing files: cp, rm, mkdir, rmdir, mv, ln, truncate, write, fill.
#include <algorithm>

#include "kernel/commands/fs_tools.hpp"

namespace paean {

namespace {

/// `work(path)` for each further word; the worst outcome.
template <typename Work>
CommandStatus for_each_path(Args& args, Sink& out, Work work) {
  std::optional<std::string_view> path = args.word("FILE");
  if (!path) return CommandStatus::Usage;
  CommandStatus worst = CommandStatus::Ok;
  for (; path; path = args.next()) {
    if (const Result<> done = work(*path); !done) worst = complain(args, out, *path, done.error());
  }
  return worst;
}

CommandStatus do_rm(Args& args, Sink& out) { return for_each_path(args, out, remove_file); }
CommandStatus do_rmdir(Args& args, Sink& out) {
  return for_each_path(args, out, [](std::string_view path) { return remove_directory(path); });
}
CommandStatus do_mkdir(Args& args, Sink& out) {
  return for_each_path(args, out, [](std::string_view path) { return make_directory(path); });
}

CommandStatus do_mv(Args& args, Sink& out) {
  const auto from = args.word("FROM"), to = from ? args.word("TO") : std::nullopt;
  if (!to || !args.end()) return CommandStatus::Usage;
  Scratch scratch{8 * kKiB};
  if (!scratch) return complain(args, out, *from, Error::OutOfMemory);
  if (const Result<> moved = rename_file(*from, place_in(*from, *to, scratch)); !moved) {
    return complain(args, out, *from, moved.error());
  }
  return CommandStatus::Ok;
}

CommandStatus do_ln(Args& args, Sink& out) {
  auto from = args.word("TARGET");
  const bool symbolic = from && *from == "-s";
  if (symbolic) from = args.word("TARGET");
  const auto path = from ? args.word("PATH") : std::nullopt;
  if (!path || !args.end()) return CommandStatus::Usage;
  const Result<> made = symbolic ? make_symlink(*from, *path) : link_file(*from, *path);
  return made ? CommandStatus::Ok : complain(args, out, *path, made.error());
}

Result<> copy(const Args& args, OpenFile& from, OpenFile& to, std::span<u8> buffer) {
  while (!args.interpreter().stop_requested()) {
    const u32 got = TRY(read_file(from, buffer));
    if (got == 0) return {};
    for (u32 done = 0; done < got;) done += TRY(write_file(to, buffer.subspan(done, got - done)));
  }
  return {};
}

CommandStatus do_cp(Args& args, Sink& out) {
  const auto from = args.word("FROM"), to = from ? args.word("TO") : std::nullopt;
  if (!to || !args.end()) return CommandStatus::Usage;
  Scratch scratch{8 * kKiB};
  const Scratch buffer;
  if (!scratch || !buffer) return complain(args, out, *from, Error::OutOfMemory);
  const FileScope source{*from, OpenMode::Read};
  if (!source) return complain(args, out, *from, source.error());
  const FileStatus status = status_of(*source);
  if (status.type == FileType::Directory) return complain(args, out, *from, Error::IsDirectory);
  const std::string_view place = place_in(*from, *to, scratch);
  if (const Result<FileStatus> there = status_of(place); there && there->inode == status.inode) {
    const FileScope same{place, OpenMode::Read};
    if (same && &file_inode(*same) == &file_inode(*source)) return complain(args, out, place, Error::InvalidArgument);
  }
  const FileScope target{place, OpenMode::Write | OpenMode::Create | OpenMode::Truncate, status.permissions};
  if (!target) return complain(args, out, place, target.error());
  if (const Result<> copied = copy(args, *source, *target, buffer.bytes()); !copied) {
    return complain(args, out, place, copied.error());
  }
  return CommandStatus::Ok;
}

CommandStatus do_truncate(Args& args, Sink& out) {
  const auto option = args.word("-s");
  if (!option || *option != "-s") return CommandStatus::Usage;
  const auto size = args.size("SIZE");
  const auto path = size ? args.word("FILE") : std::nullopt;
  if (!path || !args.end()) return CommandStatus::Usage;
  const FileScope file{*path, OpenMode::Write | OpenMode::Create};
  if (!file) return complain(args, out, *path, file.error());
  const Result<> done = truncate_file(*file, *size);
  return done ? CommandStatus::Ok : complain(args, out, *path, done.error());
}

CommandStatus do_write(Args& args, Sink& out) {
  auto path = args.word("FILE");
  OpenMode how = OpenMode::Truncate;
  if (path && *path == "-a") {
    how = OpenMode::Append;
    path = args.word("FILE");
  }
  const std::string_view text = path ? args.rest() : std::string_view{};
  if (text.empty()) return CommandStatus::Usage;  // `write FILE ""` says so
  Scratch scratch{static_cast<u32>(text.size()) + 2};
  if (!scratch) return complain(args, out, *path, Error::OutOfMemory);
  const bool quoted = text.size() > 1 && text.front() == '"' && text.back() == '"';
  BufferSink line{scratch.text()};
  format_to(line, "{}\n", quoted ? std::string_view{text.data() + 1, text.size() - 2} : text);
  const FileScope file{*path, OpenMode::Write | OpenMode::Create | how};
  if (!file) return complain(args, out, *path, file.error());
  const Result<u32> done = write_file(*file, scratch.bytes().first(line.view().size()));
  return done ? CommandStatus::Ok : complain(args, out, *path, done.error());
}

/// Words that follow from the seed: x -> 1664525 x + 1013904223, from Numerical Recipes, so that others can say what a
/// file must hold.
void fill_words(std::span<u8> buffer, u32& state) {
  for (u32 i = 0; i < buffer.size(); i += 4) {
    state = state * 1'664'525 + 1'013'904'223;
    for (u32 byte = 0; byte < 4; ++byte) buffer[i + byte] = static_cast<u8>(state >> (8 * byte));
  }
}

CommandStatus do_fill(Args& args, Sink& out) {
  const auto path = args.word("FILE");
  const auto bytes = path ? args.size("BYTES") : std::nullopt;
  const auto seed = bytes ? args.number_or("SEED", 1, ~u32{0}) : std::nullopt;
  if (!seed || !args.end()) return CommandStatus::Usage;
  const Scratch buffer;
  if (!buffer) return complain(args, out, *path, Error::OutOfMemory);
  const FileScope file{*path, OpenMode::Write | OpenMode::Create | OpenMode::Truncate};
  if (!file) return complain(args, out, *path, file.error());
  auto state = static_cast<u32>(*seed);
  for (u64 left = *bytes; left != 0 && !args.interpreter().stop_requested();) {
    fill_words(buffer.bytes(), state);
    const auto piece = static_cast<u32>(std::min<u64>(left, buffer.bytes().size()));
    for (u32 done = 0; done < piece;) {
      const Result<u32> written = write_file(*file, buffer.bytes().subspan(done, piece - done));
      if (!written) return complain(args, out, *path, written.error());
      done += *written;
    }
    left -= piece;
  }
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(cp, "FROM TO", "copy a file", do_cp, .complete = complete_path)
KCOMMAND(rm, "FILE...", "remove files", do_rm, .complete = complete_path)
KCOMMAND(mkdir, "PATH...", "make directories", do_mkdir, .complete = complete_path)
KCOMMAND(rmdir, "PATH...", "remove empty directories", do_rmdir, .complete = complete_path)
KCOMMAND(mv, "FROM TO", "rename or move", do_mv, .complete = complete_path)
KCOMMAND(ln, "[-s] TARGET PATH", "another name for a file, or a symbolic link", do_ln, .complete = complete_path)
KCOMMAND(truncate, "-s SIZE FILE", "make a file longer or shorter", do_truncate, .complete = complete_path)
KCOMMAND(write, "[-a] FILE TEXT", "write a line into a file, or with -a behind it", do_write, .complete = complete_path)
KCOMMAND(fill, "FILE BYTES [SEED]", "a file of bytes that follow from the seed", do_fill, .complete = complete_path)

}  // namespace paean
