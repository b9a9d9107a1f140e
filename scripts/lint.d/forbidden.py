"""Words and constructs that may not appear."""

import re

from tree import strip_code

# Spelled in two halves so that this file does not contain what it forbids.
LATER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b|\bfor" + " now\\b")
ATOMIC_64 = re.compile(r"\batomic(?:_ref)?\s*<\s*(?:paean::)?(?:std::)?"
                       r"(?:u64|i64|u?int64_t|uint_least64_t|(?:unsigned\s+)?long\s+long\b|PhysAddr)")
# A parameter: after ( or a comma, followed by a comma, a default or the closing bracket.
BOOL_PARAMETER = re.compile(r"[(,]\s*(?:const\s+)?bool\s+\w+\s*(?:=\s*\w+\s*)?(?=[,)])")
# The table of directory pointers has one owner, and CR3 is loaded only where it is known what that flushes.
PDPT = re.compile(r"\bkernel_pdpt\b|\bwrite_cr3\b")
PDPT_OWNERS = ("arch/x86/pdpt.cpp", "arch/x86/tlb.cpp", "arch/x86/boot_tables.cpp", "boot/early.cpp",
               "tests/unit/strict_test.cpp")
SOURCE = (".cpp", ".hpp", ".S", ".py", ".sh", ".ld", ".mk", ".md")


def _search(path, text, pattern, complaint):
    return [f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {complaint}" for match in pattern.finditer(text)]


def no_later(tree):
    """Nothing is left for later in a comment: what is missing is said in the docs or done."""
    complaints = []
    for path in tree.files:
        text = tree.text(path)
        if path.endswith(SOURCE) or path == "Makefile" or text.startswith("#!"):
            complaints += _search(path, text, LATER, "leaves something for later")
    return complaints


def no_atomic_64(tree):
    """64-bit atomics would be library calls; the cmpxchg8b helpers are used instead."""
    return [complaint for path in tree.kernel_cpp() for complaint in
            _search(path, strip_code(tree.text(path)), ATOMIC_64, "a 64-bit std::atomic")]


def no_bool_parameters(tree):
    """A choice is an enum, so that the call says what it means."""
    return [complaint for path in tree.kernel_cpp() for complaint in
            _search(path, strip_code(tree.text(path)), BOOL_PARAMETER, "a bool parameter; use an enum")]


def pdpt_owner(tree):
    """Nobody but write_pdpte() touches directory pointers; nobody flushes with CR3, which spares global entries."""
    return [complaint for path in tree.kernel_cpp() if path not in PDPT_OWNERS for complaint in
            _search(path, strip_code(tree.text(path)), PDPT, "belongs to arch/x86/pdpt.cpp; see arch/pdpt.hpp")]


CHECKS = [("pdpt-owner", pdpt_owner),
          ("nothing-later", no_later), ("atomic-64", no_atomic_64), ("bool-parameters", no_bool_parameters)]
