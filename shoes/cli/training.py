"""`shoes train` and `shoes evaluate`: single stages, without Prefect."""

from typing import TYPE_CHECKING

import click

from shoes.cli.command import Outcome, RecipeCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.spec import Recipe


@click.command(cls=RecipeCommand)
@click.pass_context
def train(context: click.Context, recipe: str, as_json: bool) -> None:
    """Train the adapter, or go on where an earlier try stopped."""
    run_with_recipe(context, recipe, as_json, _train)


@click.command(cls=RecipeCommand)
@click.pass_context
def evaluate(context: click.Context, recipe: str, as_json: bool) -> None:
    """Compare the trained adapter with the base on the test photos."""
    run_with_recipe(context, recipe, as_json, _evaluate)


def _train(recipe: "Recipe") -> Outcome:
    from shoes import stages, verdict
    from shoes.preflight import preflight

    preflight(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    report = stages.train(recipe, models, data)
    text = f"{verdict.trained(recipe, report)}\n\nAdapter: {report.adapter_dir}"
    return Outcome(text, report.model_dump(mode="json"))


def _evaluate(recipe: "Recipe") -> Outcome:
    from shoes import stages, verdict
    from shoes.preflight import preflight

    preflight(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    report = stages.evaluate(recipe, models, data, stages.trained(recipe, models, data))
    text = f"{verdict.scores(report)}\n\nPictures: {report.grid}"
    return Outcome(text, report.model_dump(mode="json"))
