"""Figures of a benchmark as JSON, beside the text."""

import json
import os


def write(path, rows):
    """One row a line, so that two files compare well. `rows`: {name: {field: value}}."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    lines = [f"  {json.dumps(name)}: {json.dumps(rows[name])}" for name in sorted(rows)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")
