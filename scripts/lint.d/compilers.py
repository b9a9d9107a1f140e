"""Checks that run a compiler over the kernel's C++."""

import functools
import json
import os
import re
import shlex
import subprocess

import units

DATABASE = "build/compile_commands.json"
FIRST_INCLUDE = re.compile(r'(?:\s|//[^\n]*|#pragma once)*#include "([^"]+)"')
# What the product is built with, for files that the database does not have (headers, and all before a first build).
DEFAULT_FLAGS = ("-std=gnu++23", "-m32", "-march=i686", "-ffreestanding", "-fno-exceptions", "-fno-rtti",
                 "-mgeneral-regs-only", "-fno-pic", "-fno-threadsafe-statics", "-O2", "-Iinclude")
# g++ has options that clang does not know; these are the ones that change what the code means.
CLANG_KEEPS = ("-D", "-U", "-I", "-std=", "-isystem")
# -mgeneral-regs-only is not among them: with it clang refuses the long double in libstdc++'s headers.
CLANG_KEEPS_EXACTLY = ("-m32", "-march=i686", "-ffreestanding", "-fno-exceptions", "-fno-rtti", "-fno-pic",
                       "-fno-pie", "-fno-threadsafe-statics", "-fno-strict-aliasing", "-mno-red-zone",
                       "-fno-delete-null-pointer-checks", "-fwrapv")
WARNINGS = ("-Wall", "-Wextra", "-Wthread-safety", "-Wglobal-constructors", "-Wexit-time-destructors",
            "-Wno-unknown-warning-option", "-Wno-unknown-attributes")  # both are g++'s to know


@functools.cache
def _database():
    """{path: compiler arguments} as make wrote them."""
    try:
        with open(DATABASE, encoding="utf-8") as file:
            entries = json.load(file)
    except (OSError, ValueError):
        return {}
    commands = {}
    for entry in entries:
        path = os.path.relpath(os.path.join(entry.get("directory", "."), entry["file"]))
        commands[path] = entry.get("arguments") or shlex.split(entry["command"])
    return commands


def clang_flags(path):
    """The flags of one file as clang understands them."""
    words = _database().get(path, DEFAULT_FLAGS)
    flags, take_next = [], False
    for word in words:
        if take_next:
            flags.append(word)
            take_next = False
        elif word in ("-I", "-D", "-U", "-isystem", "-include"):
            flags.append(word)
            take_next = True
        elif word.startswith(CLANG_KEEPS) or word in CLANG_KEEPS_EXACTLY:
            flags.append(word)
    return tuple(flags)


def _complaints(texts):
    """The error lines alone, each once: a header's error comes back from each source that includes it."""
    errors = {}
    for text in texts:
        found = [line for line in text.rstrip().split("\n") if "error:" in line]
        errors.update(dict.fromkeys(found or text.rstrip().split("\n")))
    return list(errors)


def _read_first(tree, path):
    """The header of ours that this one includes before it says anything itself; None if there is none."""
    match = FIRST_INCLUDE.match(tree.text(path))
    candidates = (f"include/{match[1]}", os.path.join(os.path.dirname(path), match[1])) if match else ()
    return next(filter(os.path.isfile, candidates), None)


def headers_alone(tree):
    """Each header compiles by itself, with the compiler of the product. One that another begins with does so there."""
    command = ("g++", *DEFAULT_FLAGS, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++", "/dev/null")

    def check(path):
        return tree.run_cached([*command, "-include", path], [path])
    first = {path: _read_first(tree, path) for path in tree.kernel_headers()}
    begun_with = set(first.values())
    compiled, seen = [], set()
    for path in sorted(first, key=lambda path: path in begun_with):  # in a circle nobody would be
        if path not in seen:
            compiled.append(path)
        while path is not None and path not in seen:
            seen.add(path)
            path = first.get(path)
    return _complaints(tree.for_each(compiled, check))


def over_units(tree, paths, command_of, extra=""):
    """Runs a compiler over sources of the kernel, several put together. What it says of a unit is not shown but is
    the reason to run it over those sources alone that it is about. Returns the texts of its complaints."""
    groups = units.group(tree, units.hardest_first(tree, paths), clang_flags)
    together = [units.Unit(tree, sorted(group)) for group in groups]

    def check_unit(unit):
        command = command_of(unit.path, [*clang_flags(unit.paths[0]), *unit.flags()])
        complaints = tree.run_cached(command, unit.paths, extra)
        return unit.sources_in(complaints) if complaints else []

    def check_alone(path):
        return tree.run_cached(command_of(path, clang_flags(path)), [path], extra)
    suspects = [path for group in tree.for_each(together, check_unit) for path in group]
    return tree.for_each(suspects, check_alone)


def clang_warnings(tree):
    """clang, where clang-tidy is not run: -Wall -Wextra, thread safety, global constructors, exit-time destructors."""
    return _complaints(over_units(tree, tree.untidied_sources(), lambda path, flags: [
        "clang++-19", *flags, *WARNINGS, "-Werror", "-fsyntax-only", path]))


def layout(tree):
    """clang-format would change nothing (make format does it)."""
    paths = tree.cpp()
    if not paths:
        return []
    result = subprocess.run(["clang-format-19", "--dry-run", "--Werror", *paths], stderr=subprocess.PIPE, text=True,
                            check=False)
    lines = [line for line in result.stderr.split("\n") if "error:" in line]
    worst = {}
    for line in lines:
        worst.setdefault(line.split(":")[0], []).append(line)
    return [f"{path}: {len(found)} places; first at line {found[0].split(':')[1]}" for path, found in worst.items()]


CHECKS = [("headers-alone", headers_alone), ("clang-warnings", clang_warnings), ("clang-format", layout)]
