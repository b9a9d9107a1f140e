"""Includes point downwards only: lib <- arch <- kernel base <- mm <- kernel services <- tests."""

import os
import re

from tree import INCLUDE

# The first prefix that fits decides.
LAYERS = (
    ("include/lib/", "lib"), ("kernel/lib/", "lib"),
    ("include/arch/", "arch"), ("arch/", "arch"), ("boot/", "arch"),
    ("include/kernel/console/", "services"), ("include/kernel/commands/", "services"),
    ("include/kernel/test/", "services"), ("include/kernel/bench/", "services"),
    ("include/kernel/", "base"), ("kernel/base/", "base"), ("kernel/sched/", "base"),
    ("include/mm/", "mm"), ("mm/", "mm"),
    ("kernel/", "services"),
    ("tests/", "tests"),
)
RANK = {name: rank for rank, name in enumerate(("lib", "arch", "base", "mm", "services", "tests"))}
SERVICE_HEADER = re.compile(r"include/kernel/[^/]+/")


def layer(path):
    """Which layer a file belongs to. A folder below include/kernel/ is a service, a header right in it is base."""
    if SERVICE_HEADER.match(path):
        return "services"
    return next((name for prefix, name in LAYERS if path.startswith(prefix)), None)


def resolve(path, name):
    """Where an include leads: below include/, for tests also beside the file."""
    if os.path.isfile(f"include/{name}"):
        return f"include/{name}"
    beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
    if path.startswith("tests/"):
        if os.path.isfile(beside):
            return beside
        if os.path.isfile(name):
            return name
    return None


def include_direction(tree):
    """A layer includes itself and the layers below it, by path from include/."""
    complaints = []
    for path in tree.cpp():
        own = layer(path)
        if own is None:
            complaints.append(f"{path}: belongs to no layer; see scripts/lint.d/layers.py")
            continue
        for match in INCLUDE.finditer(tree.text(path)):
            where = f"{path}:{tree.text(path).count(chr(10), 0, match.start()) + 1}"
            target = resolve(path, match[1])
            if target is None:
                complaints.append(f"{where}: \"{match[1]}\" is not a path from include/")
            elif layer(target) is None or RANK[layer(target)] > RANK[own]:
                complaints.append(f"{where}: {own} may not include {layer(target)} ({match[1]})")
    return complaints


CHECKS = [("include-direction", include_direction)]
