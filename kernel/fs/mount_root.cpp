#include "kernel/fs/root.hpp"
#include "kernel/log_lines.hpp"
#include "lib/log.hpp"

namespace paean {

void mount_root(const CommandLine& options) {
  std::string_view device = options.get("root").value_or(std::string_view{});
  if (device.empty()) return;
  constexpr std::string_view kFolder = "/dev/";  // people write it
  if (device.starts_with(kFolder)) device.remove_prefix(kFolder.size());
  const std::string_view type = options.get("rootfstype").value_or(std::string_view{});
  const MountMode mode = options.has("ro") ? MountMode::ReadOnly : MountMode::ReadWrite;
  const Result<> mounted = mount(device, "/", type, mode);
  LogLines line{mounted ? LogLevel::Info : LogLevel::Error};
  format_to(line, "root: ");
  write_escaped(line, device);
  if (mounted)
    format_to(line, " is mounted on /\n");
  else
    format_to(line, ": {}; / stays in memory\n", error_name(mounted.error()));
}

}  // namespace paean
