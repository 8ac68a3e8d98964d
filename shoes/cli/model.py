"""`shoes model`: download, integrity, first pictures and their timing."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoes.cli.command import Outcome, RecipeCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.spec import Recipe


@click.group()
def model() -> None:
    """Download and verify the models, and draw first pictures."""


@model.command(cls=RecipeCommand)
@click.pass_context
def fetch(context: click.Context, recipe: str, as_json: bool) -> None:
    """Have the recipe's base model and CLIP here, every file verified.

    What was interrupted goes on where it stopped; downloaded files that are damaged are downloaded again. For
    private and gated models set HF_TOKEN; for a mirror HF_ENDPOINT.
    """
    run_with_recipe(context, recipe, as_json, _fetch)


@model.command(cls=RecipeCommand)
@click.pass_context
def verify(context: click.Context, recipe: str, as_json: bool) -> None:
    """Compare every file of the recipe's models with its SHA-256. Downloads nothing.

    Exit code 1 if a file is damaged or missing.
    """
    run_with_recipe(context, recipe, as_json, _verify)


@model.command("try", cls=RecipeCommand)
@click.option("--prompt", "prompts", multiple=True, help="What to draw; may be repeated. [three known captions]")
@click.option("--adapter", type=click.Path(path_type=Path), help="Folder of an exported adapter to draw with.")
@click.option("--compare", is_flag=True, help="Measure what each option of [inference] saves and costs here.")
@click.pass_context
def try_(
    context: click.Context, prompts: tuple[str, ...], adapter: Path | None, compare: bool, recipe: str, as_json: bool
) -> None:
    """Draw first pictures with the base model: do they show something, how fast, in how much memory?

    Exit code 1 if a picture is blank or not finite.
    """
    body = _compare if compare else _try
    run_with_recipe(context, recipe, as_json, lambda loaded: body(loaded, prompts, adapter))


def _fetch(recipe: "Recipe") -> Outcome:
    from shoes import stages
    from shoes.model import text
    from shoes.model.judges import ROLES

    found = stages.repair_model(recipe)
    models = ((name, getattr(found, role)) for role, name in ROLES.items())
    blocks = [text.fetched(name, model) for name, model in models if model is not None]
    return Outcome("\n\n".join(blocks), found.model_dump(mode="json"))


def _verify(recipe: "Recipe") -> Outcome:
    from shoes import stages
    from shoes.model import text
    from shoes.model.judges import ROLES

    found = stages.check_model(recipe)
    is_good = not any(model.problems for model in found.values())
    blocks = [text.checked(ROLES[role], model) for role, model in found.items()]
    end = "All files are whole." if is_good else "Not good: see the lines above."
    data = {**{role: model.model_dump(mode="json") for role, model in found.items()}, "whole": is_good}
    return Outcome("\n\n".join([*blocks, end]), data, is_good)


def _try(recipe: "Recipe", prompts: tuple[str, ...], adapter: Path | None) -> Outcome:
    from shoes import trials
    from shoes.model import text

    report, run_id = trials.try_model(recipe, prompts, adapter)
    figures = {"images_per_minute": report.images_per_minute, "good": report.is_good, "run_id": run_id}
    data = {**report.model_dump(mode="json"), **figures}
    return Outcome(f"{text.trial(report)}\n{_in_mlflow(recipe, run_id)}", data, report.is_good)


def _compare(recipe: "Recipe", prompts: tuple[str, ...], adapter: Path | None) -> Outcome:
    from shoes import trials
    from shoes.model import text

    found, run_id = trials.compare_options(recipe, prompts, adapter)
    data = {**found.model_dump(mode="json"), "good": found.is_good, "run_id": run_id}
    return Outcome(f"{text.comparison(found)}\n{_in_mlflow(recipe, run_id)}", data, found.is_good)


def _in_mlflow(recipe: "Recipe", run_id: str | None) -> str:
    if run_id is None:
        return "MLflow could not be reached: it has nothing of this."
    return f"MLflow: run {run_id} of {recipe.publish.experiment}"
