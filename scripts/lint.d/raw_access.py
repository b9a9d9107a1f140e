"""Addresses leave their classes only in the files that scripts/lint.d/raw-allow.txt names."""

import os
import re

from tree import strip_code

ALLOWED = "scripts/lint.d/raw-allow.txt"
RAW = re.compile(r"(?:\.|->)\s*raw\s*\(\s*\)|\breinterpret_cast\b|\bbit_cast\s*<[^>]*\*\s*>")


def read_allowed(complaints):
    """{path: reason}."""
    allowed = {}
    with open(ALLOWED, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            path, _, reason = line.partition(" ")
            if not reason.strip():
                complaints.append(f"{ALLOWED}:{number}: {path} has no reason")
            if path in allowed:
                complaints.append(f"{ALLOWED}:{number}: {path} stands here twice")
            allowed[path] = reason.strip()
    return allowed


def raw_access(tree):
    """raw() and reinterpret_cast only where the allow-list says why; each listed file still needs it."""
    complaints = []
    allowed = read_allowed(complaints)
    used = set()
    for path in tree.kernel_cpp():
        code = strip_code(tree.text(path))
        matches = list(RAW.finditer(code))
        if matches and path in allowed:
            used.add(path)
            continue
        for match in matches:
            line = code.count("\n", 0, match.start()) + 1
            complaints.append(f"{path}:{line}: {' '.join(match[0].split())} in a file that {ALLOWED} does not name")
    for path in allowed:
        if not os.path.isfile(path):
            complaints.append(f"{ALLOWED}: {path} does not exist")
        elif path not in used:
            complaints.append(f"{ALLOWED}: {path} no longer needs it")
    return complaints


CHECKS = [("raw-access", raw_access)]
