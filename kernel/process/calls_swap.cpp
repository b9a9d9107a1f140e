// swapon and swapoff. Flags of swapon are not known: an area has the priority that its turn gives it.
#include "kernel/fs/swap_area.hpp"
#include "kernel/process/calls.hpp"

namespace paean {

namespace {

Answer change(u32 path, Result<> (*call)(std::string_view path)) {
  UserPath name;
  if (const Answer answer = name.read(kCurrentFolder, path); answer != 0) return answer;
  return name.is_empty() ? err::kNoEntry : answer_of(call(name.view()));
}

}  // namespace

Answer call_swapon(const CallArguments& arguments, arch::TrapFrame&) {
  return arguments.b == 0 ? change(arguments.a, swap_on) : err::kInvalid;
}

Answer call_swapoff(const CallArguments& arguments, arch::TrapFrame&) { return change(arguments.a, swap_off); }

}  // namespace paean
