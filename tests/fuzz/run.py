#!/usr/bin/python3
"""Runs the model fuzzers for a few seconds each, two at a time, and prints TAP.

    run.py --seconds N --seed N [--only GLOB] FUZZER...

A fuzzer's new inputs stay in a corpus beside its binary, so that later runs begin where earlier ones ended; inputs that
are worth keeping stand in tests/fuzz/corpus/NAME. The last line is `N passed, N failed`.
"""
import argparse
import concurrent.futures
import fnmatch
import os
import random
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../scripts/lib"))
import i386

MAX_INPUT = 1200  # bytes; some hundred operations
FIRST_INPUTS = 60  # random ones to begin with: grown from nothing, inputs stay too short for the first seconds


def make_first_inputs(folder, seed):
    numbers = random.Random(seed)
    for i in range(FIRST_INPUTS):
        with open(os.path.join(folder, f"random-{i}"), "wb") as file:
            file.write(numbers.randbytes(numbers.choice((30, 100, 300, MAX_INPUT))))


def run(fuzzer, options):
    """Returns (name, passed, text to print)."""
    name = os.path.basename(fuzzer)
    grown = fuzzer + ".corpus"
    os.makedirs(grown, exist_ok=True)
    make_first_inputs(grown, options.seed)
    corpora = [grown]
    kept = os.path.join(HERE, "corpus", name)
    if os.path.isdir(kept):
        corpora.append(kept)
    command = [*i386.words_before(fuzzer), fuzzer,
               f"-seed={options.seed}", f"-max_total_time={options.seconds}", f"-max_len={MAX_INPUT}",
               "-len_control=0", "-timeout=20", "-print_final_stats=1", "-verbosity=1",
               f"-artifact_prefix={fuzzer}.", *corpora]
    symbolizer = shutil.which("llvm-symbolizer-19") or shutil.which("llvm-symbolizer")
    environment = {**os.environ, **({"ASAN_SYMBOLIZER_PATH": symbolizer} if symbolizer else {})}
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
                          timeout=options.seconds + 120, env=environment)
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    if done.returncode == 0 and runs and int(runs[1]) > 0:
        return name, True, f"# {name}: {runs[1]} inputs in {options.seconds} s\n"
    artifact = re.search(r"Test unit written to (\S+)", done.stderr)
    tail = "".join(f"# {line}\n" for line in done.stderr.splitlines() if not line.startswith("#"))[-6000:]
    again = f"{fuzzer} {artifact[1]}" if artifact else " ".join(command)
    return name, False, f"{tail}# reproduce: {again}\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="*")
    parser.add_argument("fuzzers", nargs="*")
    options = parser.parse_args()
    chosen = [f for f in sorted(options.fuzzers) if fnmatch.fnmatch(os.path.basename(f), options.only)]
    passed = failed = 0
    print(f"1..{len(chosen)}")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, (name, good, text) in enumerate(pool.map(lambda f: run(f, options), chosen), 1):
            print(f"{'ok' if good else 'not ok'} {number} fuzz.{name}\n{text}", end="", flush=True)
            passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
