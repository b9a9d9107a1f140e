"""clang-tidy over the kernel's C++; .clang-tidy says which checks, and why the others are off."""

import os
import re

import compilers

CONFIG = ".clang-tidy"
# The analyzer's default of 225,000 nodes a function takes many times as long and found nothing more: neither here nor
# of mistakes that were planted in the depths of functions. With 2,000 it misses some of those.
ANALYZER = ("-Xclang", "-analyzer-config", "-Xclang", "max-nodes=5000")
NOISE = re.compile(r"^\d+ (warning|error)|^Error while processing|treated as error|^Suppressed|^Use -header-filter")
FINDING = re.compile(r"^(\S+?):(\d+):\d+: (?:error|warning): (.*)$")


def clang_tidy(tree):
    """No clang-tidy finding in a source or in a header of ours, functions of 60 lines at most."""
    with open(CONFIG, encoding="utf-8") as file:
        config = file.read()

    def command_of(path, flags):
        # The database cannot be used as it is: it names g++ with options that clang refuses. The configuration is found
        # from the folder upwards; --config-file would make it that of the system's headers too.
        return ["clang-tidy-19", "--quiet", "--warnings-as-errors=*", path, "--",
                *flags, *compilers.WARNINGS, *ANALYZER]

    findings = {}
    for text in compilers.over_units(tree, tree.tidy_sources(), command_of, config):
        for line in text.split("\n"):
            if match := FINDING.match(line):
                # One finding in a header comes back from each source that includes it.
                findings[f"{os.path.relpath(match[1])}:{match[2]}: {match[3]}"] = True
            elif "rror" in line and not line.startswith((" ", "/")) and not NOISE.search(line):
                findings.setdefault(line, True)
    return list(findings)


CHECKS = [("clang-tidy", clang_tidy)]
