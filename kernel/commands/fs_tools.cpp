#include "kernel/commands/fs_tools.hpp"

namespace paean {

namespace {

std::string_view last_name(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  usize begin = path.size();
  while (begin > 0 && path[begin - 1] != '/') --begin;
  return {path.data() + begin, path.size() - begin};
}

struct Offering {
  Candidates& candidates;
  std::string_view folder;  // as it was typed, with its slash
};

bool offer(void* context, const DirectoryEntry& entry) {
  const Offering& offering = *static_cast<Offering*>(context);
  if (entry.name == "." || entry.name == "..") return true;
  char text[80];  // longer words are typed by hand
  BufferSink word{text};
  format_to(word, "{}{}{}", offering.folder, entry.name, entry.type == FileType::Directory ? "/" : "");
  if (!word.truncated()) offering.candidates.add(word.view());
  return true;
}

}  // namespace

CommandStatus complain(const Args& args, Sink& out, std::string_view path, Error error) {
  format_to(out, "{}: ", args.command());
  write_escaped(out, path, 255);
  format_to(out, ": {}\n", error_name(error));
  return CommandStatus::Failed;
}

std::string_view place_in(std::string_view from, std::string_view to, Scratch& scratch) {
  const Result<FileStatus> status = status_of(to);
  if (!status || status->type != FileType::Directory) return to;
  BufferSink path{scratch.text()};
  format_to(path, "{}/{}", to, last_name(from));
  return path.view();
}

void complete_path(CommandInterpreter&, std::string_view line, Candidates& candidates) {
  const std::string_view typed = last_word(line);
  usize folder = typed.size();
  while (folder > 0 && typed[folder - 1] != '/') --folder;
  Offering offering{candidates, {typed.data(), folder}};
  const FileScope directory{folder == 0 ? "/" : offering.folder, OpenMode::Read | OpenMode::Directory};
  if (directory) (void)read_directory(*directory, offer, &offering);
}

}  // namespace paean
