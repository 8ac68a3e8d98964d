"""`shoes train` and `shoes evaluate`: single stages, without Prefect."""

from typing import TYPE_CHECKING

import click

from shoes.cli.command import Outcome, RecipeCommand, TrainingCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.reports import PausedTraining, TrainReport
    from shoes.spec import Recipe


@click.command(cls=TrainingCommand)
@click.pass_context
def train(context: click.Context, recipe: str, as_json: bool) -> None:
    """Train the adapter, or go on where an earlier try stopped.

    A training that reaches the end of the recipe's window is paused, which is no failure: the same command goes on.
    """
    run_with_recipe(context, recipe, as_json, _train)


@click.command(cls=RecipeCommand)
@click.pass_context
def evaluate(context: click.Context, recipe: str, as_json: bool) -> None:
    """Choose the checkpoint, and compare it with the base and the champion on the test photos."""
    run_with_recipe(context, recipe, as_json, _evaluate)


def _train(recipe: "Recipe") -> Outcome:
    from shoes import stages
    from shoes.preflight import preflight
    from shoes.reports import PausedTraining

    preflight(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    report = stages.train(recipe, models, data)
    if isinstance(report, PausedTraining):
        return paused(recipe, report)
    return _trained(recipe, stages.prove(recipe, models, data, report))


def paused(recipe: "Recipe", report: "PausedTraining") -> Outcome:
    """What a command says whose training goes on another time."""
    from shoes import verdict

    return Outcome(verdict.paused(recipe, report), {"state": "paused", **report.model_dump(mode="json")})


def _trained(recipe: "Recipe", report: "TrainReport") -> Outcome:
    from shoes import verdict
    from shoes.forecast import outcome

    said = outcome.outcome(outcome.kept(report.run_dir), report)
    blocks = [verdict.trained(recipe, report), *([verdict.forecast_outcome(said)] if said else [])]
    text = "\n\n".join([*blocks, f"Adapter: {report.adapter_dir}"])
    forecast = said.model_dump(mode="json") if said else None
    return Outcome(text, {"state": "finished", **report.model_dump(mode="json"), "forecast": forecast})


def _evaluate(recipe: "Recipe") -> Outcome:
    from shoes import stages, verdict
    from shoes.preflight import preflight

    preflight(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose(recipe, models, data, stages.trained(recipe, models, data))
    training = stages.prove(recipe, models, data, training)
    report = stages.evaluate(recipe, models, data, training)
    text = f"{verdict.trained(recipe, training)}\n\n{verdict.scores(report)}\n\nPictures: {report.grid}"
    return Outcome(text, report.model_dump(mode="json"))
