"""Collects test results for ./run.

    results.py add RESULTS STAGE JUNIT EXIT_CODE   one test runner's JUnit file to lines of RESULTS
    results.py summary RESULTS                     what happened, stage by stage; fails if anything did

A line of RESULTS is STAGE, OUTCOME (passed, failed, skipped), NAME and REASON, parted by tabs. A program of cmocka tests
counts as its test functions, which it reports on its output.
"""

import collections
import re
import sys
import xml.etree.ElementTree as ElementTree

CMOCKA = {"       OK ": "passed", "  FAILED  ": "failed", "  SKIPPED ": "skipped"}


def one_line(text):
    return " ".join((text or "").split())[:300]


def cmocka_cases(program, output):
    """(outcome, name, reason) of each function; one that never ended has failed. The reason is the line it printed that
    speaks of an error, else the last."""
    found, running, printed = {}, "", ""
    for line in output.splitlines():
        match = re.match(r"\[(.{10})\] (\S+)$", line)
        if not match:
            printed = printed if "error" in printed.lower() else line.strip() or printed
        elif match[1] == " RUN      ":
            running, printed = match[2], ""
        elif match[1] in CMOCKA and match[2] not in found:  # the end repeats which ones failed
            found[match[2]] = CMOCKA[match[1]], "" if match[1].endswith("OK ") else printed
            running = ""
    if running:
        found[running] = "failed", f"the program ended in it: {printed}"
    return [(outcome, f"{program}: {function}", reason) for function, (outcome, reason) in found.items()]


def cases(junit):
    for case in ElementTree.parse(junit).iter("testcase"):
        # pytest names a module in classname, ctest repeats the program's name.
        module, name = case.get("classname", "").rpartition(".")[2], case.get("name", "")
        label = name if module in ("", name) else f"{module}: {name}"
        bad = next((case.find(tag) for tag in ("failure", "error") if case.find(tag) is not None), None)
        skipped = case.find("skipped")
        functions = cmocka_cases(label, case.findtext("system-out", ""))
        yield from functions
        if bad is not None:
            if not any(outcome == "failed" for outcome, _, _ in functions):
                yield "failed", label, one_line(bad.get("message"))
        elif skipped is not None:
            yield "skipped", label, one_line(skipped.get("message"))
        elif not functions:
            yield "passed", label, ""


def add(results, stage, junit, exit_code):
    try:
        found = list(cases(junit))
    except (OSError, ElementTree.ParseError) as error:
        found = [("failed", "all of it", f"no results: {error}; it ended with {exit_code}")]
    if exit_code != "0" and not any(outcome == "failed" for outcome, _, _ in found):
        found.append(("failed", "the runner itself", f"it ended with {exit_code}"))
    if not found:
        found.append(("failed", "all of it", "there was no test"))
    with open(results, "a", encoding="utf-8") as out:
        for outcome, name, reason in found:
            out.write("\t".join((stage, outcome, one_line(name), one_line(reason))) + "\n")


def summary(results):
    stages = collections.defaultdict(collections.Counter)
    notes = []
    with open(results, encoding="utf-8") as lines:
        for line in lines:
            stage, outcome, name, reason = line.rstrip("\n").split("\t")
            stages[stage][outcome] += 1
            if outcome != "passed":
                notes.append((outcome, stage, name, reason))
    total = sum(stages.values(), collections.Counter())
    width = max(map(len, stages), default=5)
    print(f"\n{'stage':{width}}  passed  failed  skipped")
    for stage, counts in stages.items():
        print(f"{stage:{width}}  {counts['passed']:6}  {counts['failed']:6}  {counts['skipped']:7}")
    for outcome, stage, name, reason in sorted(notes, key=lambda note: note[0], reverse=True):
        print(f"{outcome}: {stage}: {name}" + (f": {reason}" if reason else ""))
    print(f"hearth: {total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped", flush=True)
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    if sys.argv[1] == "add":
        add(*sys.argv[2:])
    else:
        sys.exit(summary(sys.argv[2]))
