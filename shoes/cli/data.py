"""`shoes data`: make a data set of a downloaded catalogue, and verify one."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoes.cli.command import Outcome, RecipeCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.reports import DataReport
    from shoes.spec import Recipe


@click.group()
def data() -> None:
    """Import and verify the data set."""


@data.command("import", cls=RecipeCommand)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the data set. [the recipe's]")
@click.pass_context
def import_(context: click.Context, source: Path, out: Path | None, recipe: str, as_json: bool) -> None:
    """Make a data set of SOURCE, a downloaded catalogue: a folder with styles.csv and images/."""
    run_with_recipe(context, recipe, as_json, lambda loaded: _import(loaded, source, out))


@data.command(cls=RecipeCommand)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.pass_context
def verify(context: click.Context, folder: Path | None, recipe: str, as_json: bool) -> None:
    """Verify every file of the data set FOLDER. [the recipe's]

    Exit code 1 if anything is wrong with it.
    """
    run_with_recipe(context, recipe, as_json, lambda loaded: _verify(loaded, folder))


def _import(recipe: "Recipe", source: Path, out: Path | None) -> Outcome:
    from shoes import dataset
    from shoes.progress import progress
    from shoes.settings import load_settings

    target = out or load_settings().locate(recipe.data.dataset_dir)
    with progress("importing", "photos") as report_progress:
        report = dataset.import_catalogue(
            source.absolute(),
            target.absolute(),
            recipe.data,
            resolution=recipe.train.resolution,
            on_progress=report_progress,
        )
    return _outcome(report)


def _verify(recipe: "Recipe", folder: Path | None) -> Outcome:
    from shoes import dataset
    from shoes.errors import DataError
    from shoes.settings import load_settings

    target = (folder or load_settings().locate(recipe.data.dataset_dir)).absolute()
    try:
        return _outcome(dataset.verify(target))
    except DataError as error:
        problems = [problem.__dict__ for problem in error.problems]
        return Outcome(str(error), {"path": str(target), "problems": problems}, is_good=False)


def _outcome(report: "DataReport") -> Outcome:
    rows = [f"  {s.name:<6}{s.num_images:>6} images, {s.num_captions} captions" for s in report.splits]
    notes = [f"  {note}" for note in report.notes]
    head = f"{report.path}: whole, {report.resolution} px"
    return Outcome("\n".join([head, *rows, *notes]), report.model_dump(mode="json"))
