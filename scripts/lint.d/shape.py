"""How long files and lines may be. The length of functions is counted by clang-tidy, which knows where they end."""

MAX_LINES = 400
MAX_COLUMNS = 120
LONG_LINES = (".md", ".json", ".txt")  # prose and data
COUNTED = (".cpp", ".hpp", ".S", ".py", ".sh", ".ld", ".mk")


def _is_source(path, tree):
    return path.endswith(COUNTED) or path == "Makefile" or tree.text(path).startswith("#!")


def file_length(tree):
    """No source file is longer than 400 lines: a longer one is two ideas."""
    lengths = ((path, tree.text(path).count("\n")) for path in tree.files if _is_source(path, tree))
    return [f"{path}: {length} lines, more than {MAX_LINES}" for path, length in lengths if length > MAX_LINES]


def columns(tree):
    """No line is wider than 120 columns."""
    complaints = []
    for path in tree.files:
        if path.endswith(LONG_LINES) or not _is_source(path, tree):
            continue
        for number, line in enumerate(tree.text(path).split("\n"), 1):
            if len(line) > MAX_COLUMNS:
                complaints.append(f"{path}:{number}: {len(line)} columns, more than {MAX_COLUMNS}")
    return complaints


def whitespace(tree):
    """No blanks at line ends, no tabs in C++, one newline at the end of a file."""
    complaints = []
    for path in tree.files:
        text = tree.text(path)
        if not _is_source(path, tree) or not text:
            continue
        if not text.endswith("\n") or text.endswith("\n\n"):
            complaints.append(f"{path}: must end with exactly one newline")
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip(" \t\r"):
                complaints.append(f"{path}:{number}: blanks at the end of the line")
            elif path.endswith((".cpp", ".hpp", ".py")) and "\t" in line:
                complaints.append(f"{path}:{number}: a tab")
    return complaints


CHECKS = [("file-length", file_length), ("columns", columns), ("whitespace", whitespace)]
