"""Run all checks; one that fails or hangs never stops the others.

Checks that import large libraries go one after the other in one lane, because Python imports one module at a
time anyway; the rest, which wait for disks, servers and other processes, go in a second lane beside it.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Thread
from threading import enumerate as enumerate_threads

from shoes.environment.check import Check, Finding, Moment, Situation, Status
from shoes.environment.checks import CHECKS
from shoes.environment.packages import index_name, install_command
from shoes.errors import ConfigurationError, NotReady, Problem
from shoes.language import gettext as _
from shoes.language import number
from shoes.reports import CheckResult, EnvironmentReport
from shoes.settings import Settings
from shoes.spec import Recipe

log = logging.getLogger(__name__)
OnResult = Callable[[CheckResult], None]
_THREAD = "shoes-check"


def verify(
    recipe: Recipe,
    settings: Settings,
    moment: Moment = "by hand",
    *,
    checks: Sequence[Check] = CHECKS,
    on_result: OnResult | None = None,
) -> EnvironmentReport:
    """The state of this machine for a recipe; never raises for what it finds.

    Args:
        moment: who asks; in the flow, what later stages make is information.
        checks: run in two lanes, reported in this order.
        on_result: told of each result as soon as it is known, from the lane's thread, if anyone is to be told.
    """
    started = time.monotonic()
    run = _Run(Situation(recipe, settings, moment, Event()), checks)
    lanes = [[check for check in checks if check.imports is imports] for imports in (True, False)]
    works = (partial(run.importing_lane, lanes[0], on_result), partial(run.lane, lanes[1], on_result))
    threads = [_start(work) for work in works]
    for thread in threads:
        thread.join()
    ordered = tuple(run.results[check.name] for check in checks)
    for result in ordered:
        lines = result.detail.replace(":\n", ": ").splitlines()
        log.info("[%s] %s: %s", result.status, result.name, "; ".join(" ".join(line.split()) for line in lines))
    ready = not any(result.critical and result.status == "ERROR" for result in ordered)
    seconds = time.monotonic() - started
    return EnvironmentReport(ready=ready, checks=ordered, device=run.device(), seconds=seconds)


def require_ready(report: EnvironmentReport) -> EnvironmentReport:
    """The report itself.

    Raises:
        NotReady: critical checks failed; the error holds all of them.
    """
    failed = [check for check in report.checks if check.critical and check.status == "ERROR"]
    if failed:
        raise NotReady([Problem(check.name, check.detail, check.fix) for check in failed])
    return report


def is_waiting() -> bool:
    """A check that hangs was left behind: what it started in turn may keep the process from ending by itself."""
    return any(thread.name == _THREAD for thread in enumerate_threads())


@dataclass
class _Run:
    situation: Situation
    checks: Sequence[Check]
    results: dict[str, CheckResult] = field(default_factory=dict)

    def importing_lane(self, checks: Iterable[Check], on_result: OnResult | None) -> None:
        """The same of those that import large libraries, and word that they have ended."""
        try:
            self.lane(checks, on_result)
        finally:
            if self.situation.libraries is not None:
                self.situation.libraries.set()

    def lane(self, checks: Iterable[Check], on_result: OnResult | None) -> None:
        """Run checks one after the other."""
        for check in checks:
            self.results[check.name] = self._run(check)
            if on_result is not None:
                on_result(self.results[check.name])

    def device(self) -> str:
        """The device that would train; what the recipe asks for where PyTorch can't tell."""
        pytorch = self.results.get("PyTorch")
        if pytorch is None or pytorch.status == "ERROR":
            return self.situation.recipe.train.device
        try:
            return self.situation.device
        except ConfigurationError:
            return self.situation.recipe.train.device

    def _run(self, check: Check) -> CheckResult:
        started = time.monotonic()
        broken = [other for package in check.needs if (other := self._answers_for(package, check)) in self._failed()]
        finding = _without(broken) if broken else self._within_limit(check)
        return CheckResult(
            name=check.name,
            status=finding.status,
            critical=self._is_critical(check),
            detail=finding.detail,
            fix=finding.fix,
            missing=finding.missing,
            seconds=round(time.monotonic() - started, 3),
        )

    def _within_limit(self, check: Check) -> Finding:
        found: list[Finding] = []
        _start(lambda: found.append(self._find(check))).join(check.limit_seconds)
        if found:
            return found[0]
        detail = _("did not answer within {seconds} s").format(seconds=number(check.limit_seconds, 0))
        fix = _("run `shoes check` again; if it hangs again, look at the disk, the driver or the network that it uses")
        return Finding(self._failure(check), detail, fix)

    def _find(self, check: Check) -> Finding:
        """What the check found; whatever it raises is a finding as well."""
        try:
            return check.find(self.situation)
        except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is what this line reports
            package = _missing_package(error)
            if package is None:
                detail = _("failed: {error}").format(error=_one_line(error))
                return Finding(self._failure(check), detail, _("install the project again: `make setup`"))
            if (other := self._answers_for(package, check)) is not None:
                return _without([other])
            detail = _("{package} is not installed").format(package=package)
            return Finding(self._failure(check), detail, install_command([package]), missing=(package,))

    def _answers_for(self, package: str, asking: Check) -> str | None:
        """Name of another check that is an ERROR when this package is missing."""
        others = (c for c in self.checks if c is not asking and package in c.packages and self._is_critical(c))
        return next((other.name for other in others), None)

    def _failed(self) -> list[str]:
        return [name for name, result in self.results.items() if result.status == "ERROR"]

    def _is_critical(self, check: Check) -> bool:
        return self.situation.moment in check.critical

    def _failure(self, check: Check) -> Status:
        return "ERROR" if self._is_critical(check) else "WARN"


def _start(work: Callable[[], None]) -> Thread:
    """Work in a daemon thread, so that one that hangs does not keep the process; in the caller's language."""
    thread = Thread(target=copy_context().run, args=(work,), name=_THREAD, daemon=True)
    thread.start()
    return thread


def _missing_package(error: BaseException | None) -> str | None:
    """The package that was not found, also where a library has wrapped the error."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return index_name(error.name)
        error = error.__cause__ or error.__context__
    return None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _without(names: Sequence[str]) -> Finding:
    shown = ", ".join(_(name) for name in dict.fromkeys(names))
    return Finding("INFO", _("can't be tried without {names}").format(names=shown))
