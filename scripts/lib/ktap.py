"""Reading the KTAP that the kernel prints, and not believing it without checks.

A verdict counts only when everything agrees: one version line, a plan, as many results as planned and numbered in
order, totals that match the results, the exit status that belongs to them, and no panic in between.
"""

import dataclasses
import re

import guest

VERSION = re.compile(r"^KTAP version 1$")
PLAN = re.compile(r"^1\.\.(\d+)$")
CASE = re.compile(r"^(not ok|ok) (\d+)(?: (?:- )?([^#\s][^#]*?))?\s*(?:#\s*(SKIP)\b\s*(.*))?$")
TOTALS = re.compile(r"^# Totals: pass:(\d+) fail:(\d+) skip:(\d+)\b")
EXPECT = re.compile(r"^# expect: (.+)$")
# What a kernel prints when it is broken, whatever its tests say.
TROUBLE = re.compile(r"\bPANIC:|\bBUG:|\bBUG at\b|\bUBSAN\b.*:|\bruntime error:")
LOG_LINES = 30  # of a failing case; enough for its own diagnostics and a backtrace


@dataclasses.dataclass
class Case:
    name: str
    verdict: str  # pass, fail or skip
    reason: str   # of a skip
    log: list     # the lines printed since the case before


@dataclasses.dataclass
class Report:
    cases: list
    problems: list  # broken rules, in words
    tail: list      # the lines after the last case

    def count(self, verdict):
        return sum(case.verdict == verdict for case in self.cases)


def _read(lines, report):
    """Fills the cases; returns (version lines, plan or None, totals or None)."""
    versions, plan, totals, log, expected = 0, None, None, [], []
    for line in lines:
        line = line.rstrip()
        if VERSION.match(line):
            versions += 1
            log = []
        elif (match := PLAN.match(line)) and plan is None:
            plan = int(match[1])
        elif match := CASE.match(line):
            number, name = int(match[2]), (match[3] or "unnamed").strip()
            if number != len(report.cases) + 1:
                report.problems.append(f"result {len(report.cases) + 1} is numbered {number} ({name})")
            verdict = "skip" if match[4] else ("pass" if match[1] == "ok" else "fail")
            if match[4] and match[1] != "ok":
                verdict = "fail"
            report.cases.append(Case(name, verdict, match[5] or "", log))
            log, expected = [], []
        else:
            if match := TOTALS.match(line):
                totals = tuple(int(number) for number in match.groups())
            elif match := EXPECT.match(line):
                expected.append(match[1].strip())
            elif TROUBLE.search(line) and not any(text in line for text in expected):
                report.problems.append(f"the kernel said: {line.strip()[:150]}")
            log.append(line)
    report.tail = log
    return versions, plan, totals


def parse(text):
    """The cases of one boot and what is inconsistent in its text; the exit status is judged by `verdict`."""
    report = Report([], [], [])
    versions, plan, totals = _read(text.split("\n"), report)
    found = len(report.cases)
    if versions != 1:
        report.problems.append(f"'KTAP version 1' appears {versions} times")
    if plan is None:
        report.problems.append("there is no plan line 1..N")
    elif plan != found:
        report.problems.append(f"the plan says {plan} cases, {found} were reported")
    elif plan == 0:
        report.problems.append("no test was selected")
    counts = (report.count("pass"), report.count("fail"), report.count("skip"))
    if totals is None:
        report.problems.append("there is no '# Totals:' line")
    elif totals != counts:
        report.problems.append("totals say pass:{} fail:{} skip:{}".format(*totals)
                               + ", the results are pass:{} fail:{} skip:{}".format(*counts))
    return report


def verdict(outcome):
    """Parses what a guest printed and adds what its ending says."""
    report = parse(outcome.text)
    failed = report.count("fail")
    wanted = guest.FAIL_STATUS if failed else guest.PASS_STATUS
    if outcome.why:
        report.problems.append(f"the guest was stopped: {outcome.why}")
    elif outcome.status != wanted:
        report.problems.append(f"QEMU's status is {outcome.status}, not {wanted}")
    return report
