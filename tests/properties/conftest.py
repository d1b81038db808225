"""Prints how often each rule's calls succeeded after the tests of this folder."""

from tests.properties.system import HISTOGRAM


def pytest_terminal_summary(terminalreporter):
    if not HISTOGRAM.counts:
        return
    terminalreporter.section("calls by machine and rule")
    for machine, rule, calls, successes, errors in HISTOGRAM.rows():
        refused = ", ".join(f"{name} {count:,}" for name, count in errors.most_common())
        terminalreporter.write_line(f"{machine:12} {rule:28} {calls:>8,} {successes / calls:5.0%}  {refused}")
