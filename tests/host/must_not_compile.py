#!/usr/bin/python3
"""Proves that the compiler refuses what the types are there to prevent.

Each snippet is the body of a function. It must fail to compile, and its twin, which differs in one expression, must
compile: otherwise the failure could have any cause. Twins are compiled together, and so are snippets, in each of which
the compiler must find an error. Prints TAP.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CXX = os.environ.get("HOST_CXX", "g++")
FLAGS = "-m32 -std=gnu++23 -ffreestanding -fno-exceptions -fno-rtti -Wall -Wextra -Werror -Iinclude".split()

PRELUDE = """
#include "kernel/cmdline.hpp"
#include "lib/addr.hpp"
#include "lib/assert.hpp"
#include "lib/format.hpp"
#include "lib/result.hpp"
#include "mm/region_allocator.hpp"
using namespace paean;
extern Sink& sink;
"""
# The compiler names the file and the line of a snippet: `snippet` and its number.
FUNCTION = """
[[maybe_unused]] static Result<> function_{number}([[maybe_unused]] PhysAddr phys, [[maybe_unused]] VirtAddr virt,
    [[maybe_unused]] Pfn pfn, [[maybe_unused]] PageCount pages, [[maybe_unused]] Order order,
    [[maybe_unused]] RegionAllocator& regions) {{
# {number} "snippet"
{body}
# 1 "rest"
  return {{}};
}}
"""
# An error in it, or one in a constant expression that began in it.
ERROR = re.compile(r"(?m)^snippet:(\d+):\d+: +(?:error: |in .constexpr. expansion of )")

# name, what must fail, what must compile
SNIPPETS = [
    ("frame shifted in 32 bits", "auto x = pfn << 12; (void)x;", "auto x = to_phys(pfn); (void)x;"),
    ("physical address cut to 32 bits", "u32 x = phys; (void)x;", "u64 x = phys.raw(); (void)x;"),
    ("physical address narrowed by braces", "u32 x{phys.raw()}; (void)x;", "u64 x{phys.raw()}; (void)x;"),
    ("pointer cast from a physical address", "auto x = (char*)phys; (void)x;", "auto x = phys + 1; (void)x;"),
    ("pointer from a physical address", "char* x = phys; (void)x;", "PhysAddr x = phys; (void)x;"),
    ("pointer from a virtual address", "char* x = virt; (void)x;", "VirtAddr x = virt; (void)x;"),
    ("sum of two frames", "auto x = pfn + pfn; (void)x;", "auto x = pfn + pages; (void)x;"),
    ("sum of two physical addresses", "auto x = phys + phys; (void)x;", "auto x = phys + 4096; (void)x;"),
    ("frame compared with virtual address", "return pfn == virt ? Result<>{} : Result<>{};",
     "return pfn == pfn ? Result<>{} : Result<>{};"),
    ("physical compared with virtual", "if (phys < virt) return {};", "if (phys < phys) return {};"),
    ("frame compared with a number", "if (pfn < 0x100000) return {};", "if (pfn < Pfn{0x100000}) return {};"),
    ("frame from a number without a word", "Pfn x = 5; (void)x;", "Pfn x{5}; (void)x;"),
    ("physical address from a number", "PhysAddr x = 5; (void)x;", "PhysAddr x{5}; (void)x;"),
    ("virtual address from a physical one", "VirtAddr x{phys}; (void)x;", "VirtAddr x{virt}; (void)x;"),
    ("frame from a physical address", "Pfn x{phys}; (void)x;", "Pfn x = to_pfn(phys); (void)x;"),
    ("frame from a 64-bit number", "Pfn x{phys.raw()}; (void)x;", "Pfn x{u32{1}}; (void)x;"),
    ("pages plus a number", "auto x = pages + 1; (void)x;", "auto x = pages + PageCount{1}; (void)x;"),
    ("pages plus an order", "auto x = pages + order; (void)x;", "auto x = pages + PageCount{order}; (void)x;"),
    ("mask on a physical address", "auto x = phys & ~0xfffu; (void)x;",
     "auto x = phys.align_down(kPageSize); (void)x;"),
    ("dropped reservation", "regions.reserve({phys, phys}, BootReason::Modules);",
     "return regions.reserve({phys, phys}, BootReason::Modules);"),
    ("more placeholders than arguments", 'format_to(sink, "{} {}", 1);', 'format_to(sink, "{} {}", 1, 2);'),
    ("more arguments than placeholders", 'format_to(sink, "{}", 1, 2);', 'format_to(sink, "{}", 1);'),
    ("stray brace", 'format_to(sink, "}");', 'format_to(sink, "}}");'),
    ("open brace", 'format_to(sink, "{");', 'format_to(sink, "{{");'),
    ("format that is not a literal", 'const char* f = "x"; format_to(sink, f);', 'format_to(sink, "x");'),
    ("option that is not declared", 'if (CommandLine{}.has("vmaloc")) return {};',
     'if (CommandLine{}.has("vmalloc")) return {};'),
]


def compile_bodies(bodies):
    """({number of one with an error}, whether all compiled, what the compiler said) of {number: body}. Each is a
    function of its own, so that an error in one leaves the others as they are."""
    functions = [FUNCTION.format(number=number, body=body) for number, body in bodies.items()]
    command = [CXX, *FLAGS, "-fsyntax-only", "-x", "c++", "-"]
    done = subprocess.run(command, input=PRELUDE + "".join(functions), text=True, cwd=ROOT, capture_output=True,
                          check=False)
    errors = {int(number) for number in ERROR.findall(done.stderr)}
    return errors, done.returncode == 0, done.stderr


def refused(bodies):
    """The numbers of those in which the compiler finds errors. Some it looks for only where the rest is right."""
    rest = dict(bodies)
    while rest:
        errors, _, _ = compile_bodies(rest)
        if not errors:
            break
        rest = {number: body for number, body in rest.items() if number not in errors}
    return bodies.keys() - rest.keys()


def main():
    bad = refused({number: wrong for number, (_, wrong, _) in enumerate(SNIPPETS, 1)})
    errors, all_compiled, text = compile_bodies({number: right for number, (_, _, right) in enumerate(SNIPPETS, 1)})
    failures = 0
    for number, (name, wrong, right) in enumerate(SNIPPETS, 1):
        control = all_compiled or (bool(errors) and number not in errors)
        passed = number in bad and control
        print(f"{'ok' if passed else 'not ok'} {number} must_not_compile.{name}")
        if number not in bad:
            print(f"# this compiled: {wrong}")
        if not control:
            print(f"# the control did not compile: {right}")
        failures += not passed
    if not all_compiled:
        print("\n".join(f"# {line}" for line in text.splitlines()[:12]))
    print(f"1..{len(SNIPPETS)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
