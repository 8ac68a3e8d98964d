"""Run all checks; one that fails never stops the others."""

import logging
import time

from shoes.device import choose_device, measure
from shoes.environment.checks import REGISTRY, Check
from shoes.model.load import quiet_libraries
from shoes.reports import CheckResult, EnvironmentReport
from shoes.settings import Settings
from shoes.spec import Recipe

log = logging.getLogger(__name__)


def verify(recipe: Recipe, settings: Settings) -> EnvironmentReport:
    """The state of this machine for a recipe.

    Raises:
        ConfigurationError: the recipe names a device that this machine lacks.
    """
    started = time.monotonic()
    quiet_libraries()
    device = choose_device(recipe.train.device, measure())
    results = tuple(_run(check, recipe, settings) for check in REGISTRY)
    for result in results:
        log.info("[%s] %s: %s", result.status, result.name, result.detail)
    ready = not any(result.critical and result.status == "ERROR" for result in results)
    seconds = time.monotonic() - started
    return EnvironmentReport(ready=ready, checks=results, device=device.value, seconds=seconds)


def _run(check: Check, recipe: Recipe, settings: Settings) -> CheckResult:
    try:
        finding = check.run(recipe, settings)
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is what this line reports
        return CheckResult(
            name=check.name,
            status="ERROR",
            critical=check.critical,
            detail=f"{type(error).__name__}: {error}",
            fix="run `make setup` again",
        )
    return CheckResult.model_validate({"name": check.name, "critical": check.critical, **finding.__dict__})
