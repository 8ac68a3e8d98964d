"""`shoes check`: is this machine ready?"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from shoes import language
from shoes.cli.command import Outcome, RecipeCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.device import Decision
    from shoes.environment.verify import OnResult
    from shoes.reports import CheckResult, EnvironmentReport
    from shoes.spec import Recipe

_COLOURS = {"OK": "green", "WARN": "yellow", "ERROR": "red", "INFO": "cyan"}


def _parse_language(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del context, parameter
    if value is None:
        return None
    found = language.parse(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(language.LANGUAGES)}")
    return found


@click.command(cls=RecipeCommand)
@click.option("--explain", is_flag=True, help="Show what is decided about the device, and why.")
@click.option(
    "--lang",
    metavar="en|pt",
    callback=_parse_language,
    help="Language of the report. [the locale's; with --json English]",
)
@click.pass_context
def check(context: click.Context, explain: bool, lang: language.Language | None, recipe: str, as_json: bool) -> None:
    """Verify the environment: is this machine ready to train?

    Exit code 1 if something critical fails.
    """
    words = shlex.join(["--recipe", recipe, *context.args])
    spoken = lang or ("en" if as_json else language.from_locale())

    def body(loaded: "Recipe") -> Outcome:
        with language.use(spoken):
            return _check(loaded, words, explain=explain)

    with _leaving_hung_checks_behind():
        run_with_recipe(context, recipe, as_json, body)


def _check(recipe: "Recipe", words: str, *, explain: bool) -> Outcome:
    import logging

    from shoes import environment
    from shoes.environment.text import text
    from shoes.settings import load_settings

    logging.getLogger("shoes.environment").setLevel(logging.WARNING)  # the lines are the output here
    settings = load_settings()
    with _progress() as on_result:
        report = environment.verify(recipe, settings, on_result=on_result)
    decisions = _decisions(recipe) if explain else None
    shown = text(
        report,
        recipe_words=words,
        dataset_dir=settings.locate(recipe.data.dataset_dir),
        decisions=decisions,
        width=shutil.get_terminal_size((100, 24)).columns,
        paint=_paint,
    )
    return Outcome(shown, _as_data(report, decisions), report.ready)


def _as_data(report: "EnvironmentReport", decisions: "list[Decision] | None") -> dict[str, Any]:
    fields = {"name", "status", "critical", "detail", "fix"}
    data: dict[str, Any] = {"ready": report.ready, "checks": [c.model_dump(include=fields) for c in report.checks]}
    return data if decisions is None else data | {"decisions": [decision.model_dump() for decision in decisions]}


def _decisions(recipe: "Recipe") -> "list[Decision]":
    """What is decided about the device; nothing where the checks say why it can't be."""
    from shoes.errors import ConfigurationError

    try:
        from shoes.device import decide, measure

        return list(decide(recipe.train, measure()))
    except (ConfigurationError, ImportError):
        return []


@contextmanager
def _progress() -> "Iterator[OnResult | None]":
    """A bar on a terminal; nothing elsewhere, the report is what is read there."""
    if not sys.stderr.isatty():
        yield None
        return
    from shoes.environment.checks import CHECKS
    from shoes.progress import progress

    done: list[CheckResult] = []
    with progress(language.gettext("checking"), language.gettext("checks")) as report:

        def count(result: "CheckResult") -> None:
            done.append(result)
            report(len(done), len(CHECKS), language.gettext(result.name))

        yield count


def _paint(text: str, status: str) -> str:
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=_COLOURS[status], bold=True)


@contextmanager
def _leaving_hung_checks_behind() -> Iterator[None]:
    """A check that hangs may have started threads that Python would wait for at its end: do not."""
    try:
        yield
    except SystemExit as leaving:
        from shoes import environment

        if not environment.is_waiting():
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(leaving.code if isinstance(leaving.code, int) else 1)
