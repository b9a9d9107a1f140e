"""The scripts that judge test runs are themselves tested: each text here breaks one rule and must be refused."""

import importlib.machinery
import importlib.util
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import guest  # noqa: E402
import ktap  # noqa: E402
import stages  # noqa: E402

GOOD = ("boot text\nKTAP version 1\n1..3\n# seed=7\nok 1 mm.one\n# a note\nok 2 mm.two # SKIP no highmem\n"
        "ok 3 mm.three\n# Totals: pass:2 fail:0 skip:1\n")
FAILING = GOOD.replace("ok 3 mm", "not ok 3 mm").replace("pass:2 fail:0", "pass:1 fail:1")

# (what is wrong, text, QEMU status, reason that the runner stopped it)
BROKEN = (
    ("no version line", GOOD.replace("KTAP version 1\n", ""), 33, ""),
    ("two runs in one boot", GOOD.replace("# a note", "KTAP version 1"), 33, ""),
    ("no plan", GOOD.replace("1..3\n", ""), 33, ""),
    ("plan too long", GOOD.replace("1..3", "1..4"), 33, ""),
    ("an empty plan", "KTAP version 1\n1..0\n# Totals: pass:0 fail:0 skip:0\n", 33, ""),
    ("a result twice", GOOD.replace("ok 3 mm", "ok 2 mm"), 33, ""),
    ("no totals", GOOD.replace("# Totals", "# totals"), 33, ""),
    ("wrong totals", GOOD.replace("pass:2", "pass:3"), 33, ""),
    ("a panic", GOOD.replace("# a note", "PANIC: out of words"), 33, ""),
    ("a sanitizer report", GOOD.replace("# a note", "mm/zone.cpp:3: runtime error: shift"), 33, ""),
    ("a triple fault", GOOD, 0, ""),
    ("pass with the status of failure", GOOD, 35, ""),
    ("failure with the status of pass", FAILING, 33, ""),
    ("silence", GOOD, None, "silent for 20 s"),
    ("nothing", "", 0, ""),
)

# (text of a stage's log, passed, failed, skipped)
COUNTS = (
    ("ok 1 a\nnot ok 2 b\n# reproduce: x\nok 3 c # SKIP no\n", 1, 1, 1),
    ("OK columns\nFAIL layout (1.2 s)\n     x.cpp: bad\nlint: 1 of 2 checks failed\n", 1, 1, 0),
    ("[doctest] test cases:  12 |  11 passed | 1 failed | 0 skipped\n", 11, 1, 0),
    ("ok 1 a\n[doctest] test cases: 9 | 9 passed | 0 failed |\n42 passed, 3 failed\n", 42, 3, 0),
    ("Segmentation fault\n", 0, 0, 0),
)


# (what is wrong or empty, figure, what the budget has for it): 2 % is what a count may grow
FIGURES = (
    ("", 101.9, {"max": 200, "last": 100.0}),
    ("a count that grew by 2.1 %", 102.1, {"max": 200, "last": 100.0}),
    ("a count over its limit", 200.1, {"max": 200, "last": 200.0}),
    ("two CPUs that do what one does", 100.0, {"scaling": 1.7}),
    ("too little", 7.99, {"min": 8}),
    ("", 8.0, {"min": 8}),
    ("too much beside another", 65.1, {"ratio_to": {"another": 1.3}}),
    ("", 65.0, {"ratio_to": {"another": 1.3}}),
)


def _bench():
    """scripts/bench, as a module: a command has no .py."""
    path = os.path.join(guest.ROOT, "scripts/bench")
    loader = importlib.machinery.SourceFileLoader("bench", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
    sys.modules["bench"] = module  # dataclasses look their module up
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = kept
    return module


def _budget_rules():
    bench = _bench()
    for name, value, limits in FIGURES:
        figure = bench.Figure(value, "insn/op", alone=value / 2 if "scaling" in limits else 0.0)
        if bool(bench.complaint_about(figure, limits, {"another": bench.Figure(50.0, "insn/op")})) != bool(name):
            yield f"accepted: {name}" if name else f"refused: {value} with {limits}"
    if dict(bench.verdicts({}, {}, ["kmap_hit"]))["kmap_hit"] == "":
        yield "accepted: a benchmark that does not report"


def _refused(text, status, why):
    return bool(ktap.verdict(guest.Outcome(text, status, why, 1.0)).problems)


def verdict_rules(tree):
    """The judges of test runs refuse every kind of broken run and accept good ones."""
    del tree  # looks at no file
    complaints = []
    if _refused(GOOD, guest.PASS_STATUS, ""):
        complaints.append("a good run is refused")
    if _refused(FAILING, guest.FAIL_STATUS, "") or ktap.parse(FAILING).count("fail") != 1:
        complaints.append("a run with one failing case is not read as such")
    expected = GOOD.replace("# a note", "# expect: out of words\nPANIC: out of words")
    if _refused(expected, guest.PASS_STATUS, ""):
        complaints.append("an announced panic is refused")
    complaints += [f"accepted: {name}" for name, *run in BROKEN if not _refused(*run)]
    for text, *wanted in COUNTS:
        if list(stages.count(text)) != wanted:
            complaints.append(f"{text.splitlines()[0]!r} counts as {stages.count(text)}, not {wanted}")
    complaints += _budget_rules()
    codes = {33: 0, 35: 1, 37: 2, 0: 3, 1: 3, -6: 3, None: 124}
    complaints += [f"status {status} becomes {guest.exit_code(status)}, not {code}"
                   for status, code in codes.items() if guest.exit_code(status) != code]
    return complaints


CHECKS = [("verdict-rules", verdict_rules)]
