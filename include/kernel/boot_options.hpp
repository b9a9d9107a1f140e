// The command line from the boot loader, and the options that the base itself obeys.
#pragma once

#include "kernel/cmdline.hpp"

namespace paean {

#if defined(PAEAN_UBSAN)
inline constexpr std::string_view kBuildFlavour = "ubsan build";
#elif defined(PAEAN_DEBUG)
inline constexpr std::string_view kBuildFlavour = "debug build";
#else
inline constexpr std::string_view kBuildFlavour = "release build";
#endif

/// Applies console=, loglevel=, quiet and panic= and returns the line for everybody else. Its text lives for ever.
CommandLine read_boot_options();

/// Logs words that no option knows, and what was malformed in the base's own options.
void report_option_mistakes(const CommandLine& options);

}  // namespace paean
