"""Shell and Python scripts, and the patches of the seeded bugs."""

import ast
import os
import subprocess

BASH = "#!/usr/bin/env bash"
PYTHON = "#!/usr/bin/python3"  # Debian's, which has the python3-* packages


def _first_line(tree, path):
    return tree.text(path).split("\n", 1)[0]


def _is_bash(tree, path):
    return path.endswith(".sh") or ("bash" in _first_line(tree, path) and _first_line(tree, path).startswith("#!"))


def _is_python(tree, path):
    line = _first_line(tree, path)
    return path.endswith(".py") or (line.startswith("#!") and "python" in line)


def shebangs(tree):
    """Scripts start with the one line for their language and are executable."""
    complaints = []
    for path in tree.files:
        line = _first_line(tree, path)
        if line.startswith("#!"):
            if line not in (BASH, PYTHON):
                complaints.append(f"{path}: starts with {line}, not {BASH} or {PYTHON}")
            if not os.access(path, os.X_OK) and not path.endswith(".py"):
                complaints.append(f"{path}: is not executable")
        elif os.access(path, os.X_OK) and path.startswith("scripts/"):
            complaints.append(f"{path}: is executable without a #! line")
    return complaints


def bash_syntax(tree):
    """bash -n accepts each shell script, and each one stops at the first error."""
    complaints = []
    for path in tree.files:
        if not _is_bash(tree, path):
            continue
        result = subprocess.run(["bash", "-n", path], stderr=subprocess.PIPE, text=True, check=False)
        complaints += result.stderr.strip().split("\n") if result.returncode else []
        if "set -euo pipefail" not in tree.text(path):
            complaints.append(f"{path}: lacks set -euo pipefail")
    return complaints


def python_syntax(tree):
    """Each Python script compiles."""
    complaints = []
    for path in tree.files:
        if _is_python(tree, path):
            try:
                ast.parse(tree.text(path), path)
            except SyntaxError as error:
                complaints.append(f"{path}:{error.lineno}: {error.msg}")
    return complaints


def seeded_bugs(tree):
    """Each patch of tests/mutants still applies to the sources that it names."""
    complaints = []
    for path in tree.files:
        if path.startswith("tests/mutants/") and path.endswith(".patch"):
            result = subprocess.run(["git", "apply", "--check", path], stderr=subprocess.PIPE, text=True, check=False)
            if result.returncode:
                complaints.append(f"{path}: {result.stderr.strip().splitlines()[-1]}")
    return complaints


CHECKS = [("shebangs", shebangs), ("bash-syntax", bash_syntax), ("python-syntax", python_syntax),
          ("seeded-bugs", seeded_bugs)]
