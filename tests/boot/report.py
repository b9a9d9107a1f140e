#!/usr/bin/python3
"""scripts/report, looked at in a browser: the page draws everything and nothing complains. build/report.png shows it.

A page with a mistake in it and an empty page go through the same browser first: the one must be heard, and the
screenshot of the other must be worth much less than the report's.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import tempfile

import harness
from harness import Case, check

BROWSER = "chromium-headless-shell"
WIDTH, HEIGHT = 1100, 3600
WRONG = "<!doctype html><title>wrong</title><script>nobody.home()</script>"
EMPTY = "<!doctype html><title>empty</title>"
SECTIONS = ("Beside Linux", "Physical memory", "Lowmem by owner", "Slots of kmap", "Fragmentation")
BESIDE = {"linux": "6.1.0-0", "rows": [
    {"part": "counts", "operation": "kmap_hit", "linux": 320, "paean": 48, "unit": "insn/op"},
    {"part": "counts", "operation": "<b>&amp;", "linux": 1, "paean": 0, "unit": "insn/op"}]}


def browse(folder: str, page: str, screenshot: str) -> tuple[str, list[str]]:
    """(the document after loading, what the console said)"""
    command = [BROWSER, "--disable-gpu", f"--window-size={WIDTH},{HEIGHT}", "--enable-logging=stderr",
               f"--user-data-dir={folder}/profile", f"--screenshot={screenshot}", "--dump-dom", f"file://{page}"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # it refuses to be root with one
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                            check=False)
    check(result.returncode == 0, f"the browser ended with {result.returncode}: {result.stderr[-300:]}")
    check(os.path.exists(screenshot), "the browser made no screenshot")
    return result.stdout, [line for line in result.stderr.splitlines() if ":CONSOLE" in line]


def controls(folder: str) -> int:
    """Is a mistake heard here? Returns the size of an empty page's screenshot."""
    for name, text in (("wrong", WRONG), ("empty", EMPTY)):
        with open(f"{folder}/{name}.html", "w", encoding="utf-8") as file:
            file.write(text)
    _, heard = browse(folder, f"{folder}/wrong.html", f"{folder}/wrong.png")
    check(any("nobody is not defined" in line for line in heard), f"a page with a mistake was heard as {heard}")
    _, heard = browse(folder, f"{folder}/empty.html", f"{folder}/empty.png")
    check(not heard, f"an empty page says {heard}")
    return os.path.getsize(f"{folder}/empty.png")


def look(folder: str) -> str:
    with open(f"{folder}/beside.json", "w", encoding="utf-8") as file:
        json.dump(BESIDE, file)
    page, screenshot = f"{folder}/report.html", os.path.join(harness.build_directory(), "report.png")
    command = ["scripts/report", "--quick", "--out", page, "--beside", f"{folder}/beside.json", "--kernel",
               harness.kernel_path()]
    result = subprocess.run(command, cwd=harness.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=400, check=False)
    check(result.returncode == 0, f"exit status {result.returncode}: {result.stdout[-300:]}")
    empty = controls(folder)
    document, heard = browse(folder, page, screenshot)
    check(not heard, f"the console says {heard}")
    check(re.findall(r"<h2>(.*?)</h2>", document) == list(SECTIONS), "sections are missing")
    for heading, part in zip(SECTIONS, document.split("<section>")[1:]):
        check("<svg" in part and ("<rect" in part or "<polyline" in part), f"nothing is drawn in {heading}")
    check("&lt;b&gt;&amp;amp;" in document, "names are not taken literally")
    check("http" not in document, "the page names something in a network")
    check(re.search(r'="-?(nan|inf)', document, re.IGNORECASE) is None, "a coordinate is not a number")
    with open(screenshot, "rb") as file:
        width, height = struct.unpack(">16xII", file.read(24))
    check((width, height) == (WIDTH, HEIGHT), f"the screenshot is {width} by {height}")
    size = os.path.getsize(screenshot)
    check(size > 5 * empty, f"the screenshot has {size} bytes, an empty one {empty}")
    return f"{size // 1024} kB in {screenshot}"


def case() -> str:
    if shutil.which(BROWSER) is None:
        raise harness.Skip(f"{BROWSER} is not installed; scripts/deps test installs it")
    os.makedirs(harness.build_directory(), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="report-", dir=harness.build_directory()) as folder:
        return look(folder)


def cases(_options) -> list[Case]:
    return [Case("boot.report.in_a_browser", case)]


if __name__ == "__main__":
    harness.main(__doc__, cases)
