// The root file system, as the command line wants it.
#pragma once

#include "kernel/cmdline.hpp"
#include "kernel/fs/vfs.hpp"

namespace paean {

/// Boot modules that are cpio archives (`-initrd` of QEMU, `module` of GRUB) become files of `/`. Boot, once, before
/// mount_root(); errors are lines of the log.
void unpack_boot_modules();
/// Mounts what `root=` names on `/`, read-only with `ro`, of type `rootfstype=`. If that fails it says why, and the
/// memory file system stays. Boot, once, block devices known.
void mount_root(const CommandLine& options);

}  // namespace paean
