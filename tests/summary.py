"""What a run of tests says at its end: where its time went, which tests were skipped and why.

With `--expected-skips FILE` a skip for a reason that is not in the file fails the run: a skipped test guards nothing.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

_OPTION = "--expected-skips"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(_OPTION, type=Path, metavar="FILE", help="reasons for which a test may skip, one regex a line")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption(_OPTION) is None:
        return
    terminalreporter.section("where the time went")
    seconds = _seconds(terminalreporter)
    for place, total in seconds.most_common():
        terminalreporter.write_line(f"{total:8.0f} s  {place}")
    terminalreporter.section("skipped tests")
    expected = read_expected(config.getoption(_OPTION))
    for reason, tests in sorted(_skips(terminalreporter).items()):
        word = "expected" if is_expected(reason, expected) else "NOT EXPECTED"
        terminalreporter.write_line(f"{len(tests):4}  {reason} ({word}): {', '.join(sorted(set(tests)))}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Only the process that hears of all tests decides."""
    file = session.config.getoption(_OPTION)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if file is None or reporter is None or hasattr(session.config, "workerinput"):
        return
    expected = read_expected(file)
    if session.exitstatus == pytest.ExitCode.OK and any(not is_expected(one, expected) for one in _skips(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def read_expected(file: Path) -> list[str]:
    """The patterns of a file, without its comments."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def is_expected(reason: str, expected: list[str]) -> bool:
    """A pattern is found in the reason."""
    return any(re.search(pattern, reason) for pattern in expected)


def _seconds(reporter: pytest.TerminalReporter) -> Counter[str]:
    """Set-up, call and teardown of all tests of a folder, on all workers."""
    found: Counter[str] = Counter()
    for reports in reporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = Path(report.nodeid.partition("::")[0])
                found[str(file.parent if len(file.parts) > 2 else file)] += report.duration  # type: ignore[assignment]
    return found


def _skips(reporter: pytest.TerminalReporter) -> dict[str, list[str]]:
    """By reason, the files of the tests."""
    found: dict[str, list[str]] = {}
    for report in reporter.stats.get("skipped", ()):
        if isinstance(report.longrepr, tuple):
            reason = str(report.longrepr[2]).removeprefix("Skipped: ")
            found.setdefault(reason, []).append(report.nodeid.partition("::")[0])
    return found
