"""The `shoes` command: the library's commands, and the pipeline as a Prefect flow."""

import logging
import os
from typing import TYPE_CHECKING

import click

from flows.operations.commands import down, status, up
from flows.report import report
from flows.schedule import schedule
from shoes.cli.check import check
from shoes.cli.command import Outcome, RecipeCommand, TrainingCommand, run_with_recipe
from shoes.cli.data import data
from shoes.cli.export import export
from shoes.cli.forecast import compare, tonight
from shoes.cli.generate import generate
from shoes.cli.model import model
from shoes.cli.service import service
from shoes.cli.training import evaluate, paused, train

if TYPE_CHECKING:
    from shoes.spec import Recipe


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="shoes")
def main() -> None:
    """Fine-tune an image model overnight, and find a verdict in the morning that can be trusted."""


@main.command(cls=TrainingCommand)
@click.pass_context
def run(context: click.Context, recipe: str, as_json: bool) -> None:
    """Run the whole night: verify, fetch, prepare, train, evaluate, promote, report.

    What was done before is not done again; an interrupted training goes on where it stopped. One that reaches the
    end of the recipe's window is paused, and the night ends there: the next run goes on.
    """
    run_with_recipe(context, recipe, as_json, _run)


def _run(recipe: "Recipe") -> Outcome:
    from flows.operations.environment import prepare_server
    from shoes.preflight import preflight
    from shoes.reports import PausedTraining

    preflight(recipe)
    prepare_server()
    from prefect import tags

    from flows.overnight import overnight
    from shoes.servers import record
    from shoes.settings import load_settings

    with record.seated(load_settings()), tags("shoes", "night"):
        report = overnight(recipe)
    logging.getLogger("prefect").setLevel(logging.WARNING)  # the verdict is the last word
    if isinstance(report, PausedTraining):
        return paused(recipe, report)
    return Outcome(f"\n{report.text}", {"state": "finished", **report.model_dump(mode="json")})


@main.command(cls=RecipeCommand)
@click.option(
    "--compare", "choices", is_flag=True, help="Measure every choice side by side; keep the best for this machine."
)
@click.pass_context
def forecast(context: click.Context, choices: bool, recipe: str, as_json: bool) -> None:
    """Say what tonight will do: when it ends, what it takes, and whether it fits.

    A few real steps, a part of a held-out pass, some images and a checkpoint are measured on this machine. Exit
    code 1 if the night does not fit into its window, the memory or the disk.
    """
    run_with_recipe(context, recipe, as_json, compare if choices else _forecast)


def _forecast(recipe: "Recipe") -> Outcome:
    from flows.operations.environment import prepare_prefect

    prepare_prefect()
    # The run's process holds these as well, and its memory is part of the forecast.
    import flows.overnight  # noqa: F401

    if not os.environ.get("PREFECT_API_URL"):
        import prefect.server.api.server  # noqa: F401 - a run without a server starts its own

    return tonight(recipe)


for command in (
    check,
    data,
    train,
    evaluate,
    export,
    forecast,
    generate,
    model,
    report,
    up,
    down,
    status,
    schedule,
    service,
):
    main.add_command(command)
