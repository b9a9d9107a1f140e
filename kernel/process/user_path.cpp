// Paths of programs: joined to a folder and tidied, so that the file calls need no idea of a current one.
#include "kernel/process/calls.hpp"
#include "mm/kmalloc.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kMostPath = 4096;  // with its zero

/// Appends to an absolute path what does not begin with `/`. `.` goes; `..` stays: it may follow a symbolic link.
Answer join(char* text, u32& length, std::string_view rest) {
  if (length + 1 + rest.size() >= kMostPath) return err::kNameTooLong;
  if (text[length - 1] != '/') text[length++] = '/';
  for (const char c : rest) text[length++] = c;
  text[length] = '\0';
  return 0;
}

}  // namespace

UserPath::~UserPath() { kfree(text_); }

Answer UserPath::read(i32 directory, u32 path) {
  auto* const text = static_cast<char*>(CALL_TRY(kmalloc(2 * kMostPath, AllocFlags::Kernel)));
  text_ = text;
  char* const given = text + kMostPath;
  const Result<u32> got = copy_string_from_user({given, kMostPath}, VirtAddr{path});
  if (!got) return answer_of(got.error());
  const std::string_view name{given, *got};
  empty_ = name.empty();
  length_ = 0;
  if (name.starts_with('/')) {
    __builtin_memcpy(text, given, *got + 1);
    length_ = *got;
    return 0;
  }
  if (directory == kCurrentFolder) {
    char* const folder = CALL_TRY(copy_folder(current_process()));
    length_ = static_cast<u32>(__builtin_strlen(folder));
    __builtin_memcpy(text, folder, length_ + 1);
    kfree(folder);
  } else {
    const FileRef folder = current_process().files.get(static_cast<u32>(directory));
    if (!folder) return err::kBadFile;
    const std::string_view base = folder->path();
    if (base.empty() && !empty_) return err::kNotDirectory;
    for (const char c : base) text[length_++] = c;
  }
  return empty_ ? 0 : join(text, length_, name);
}

}  // namespace paean
