"""`shoes data`: make a data set of photos from anywhere, verify one, and describe one."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoes.cli.command import Outcome, RecipeCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.reports import DataReport
    from shoes.spec import Recipe


@click.group()
def data() -> None:
    """Import, verify and describe the data set."""


@data.command("import", cls=RecipeCommand)
@click.argument("source", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the data set. [the recipe's]")
@click.pass_context
def import_(context: click.Context, source: str | None, out: Path | None, recipe: str, as_json: bool) -> None:
    """Make a data set of SOURCE. [the recipe's]

    SOURCE is the folder of the downloaded catalogue (styles.csv and images/); any folder of images with
    captions (captions.json, metadata.jsonl, metadata.csv, or a .txt beside each); a data set on the Hub
    (owner/name, or hub:owner/name@revision); or one on Kaggle (kaggle:owner/name).

    An import that was interrupted goes on where it stopped.
    """
    run_with_recipe(context, recipe, as_json, lambda loaded: _import(loaded, source, out))


@data.command(cls=RecipeCommand)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.pass_context
def verify(context: click.Context, folder: Path | None, recipe: str, as_json: bool) -> None:
    """Verify every file of the data set FOLDER. [the recipe's]

    Exit code 1 if anything is wrong with it.
    """
    run_with_recipe(context, recipe, as_json, lambda loaded: _verify(loaded, folder))


@data.command(cls=RecipeCommand)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the description. [below the data folder]")
@click.pass_context
def describe(context: click.Context, folder: Path | None, out: Path | None, recipe: str, as_json: bool) -> None:
    """Say what is in the data set FOLDER, as text and as a page. [the recipe's]

    Counts by colour, gender, season and usage in each split, captions, sizes of the original photos, samples
    of each colour, and near-duplicates. The page is index.html; beside it are description.json and samples.png.
    """
    run_with_recipe(context, recipe, as_json, lambda loaded: _describe(loaded, folder, out))


def _import(recipe: "Recipe", source: str | None, out: Path | None) -> Outcome:
    from shoes import dataset
    from shoes.errors import ConfigurationError, Problem
    from shoes.progress import progress
    from shoes.settings import load_settings

    given = source or recipe.data.source
    if given is None:
        fix = "name one: `shoes data import SOURCE`, or data.source in the recipe"
        raise ConfigurationError([Problem("SOURCE", "is missing, and the recipe has none", fix)])
    settings = load_settings()
    target = out or settings.locate(recipe.data.dataset_dir)
    if target.is_relative_to(settings.root / "data" / "demo"):
        fix = "choose a folder of your own: --out DIR, or a recipe of your own: --recipe overnight"
        raise ConfigurationError([Problem(str(target), "belongs to the demo and is never replaced", fix)])
    with progress("importing", "photos") as report_progress:
        report = dataset.import_data_set(
            given,
            target.absolute(),
            recipe.data,
            resolution=recipe.train.resolution,
            downloads=settings.cache / "downloads",
            on_progress=report_progress,
        )
    return _outcome(report, f"What is in it: shoes data describe {report.path}")


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


def _describe(recipe: "Recipe", folder: Path | None, out: Path | None) -> Outcome:
    from shoes import dataset
    from shoes.dataset import page
    from shoes.dataset.summary import text
    from shoes.settings import load_settings

    settings = load_settings()
    target = (folder or settings.locate(recipe.data.dataset_dir)).absolute()
    verified = dataset.verify(target)
    place = (out or page.default_place(settings.data / "descriptions", verified.fingerprint)).absolute()
    description = page.write_page(target, place)
    data = {**description.model_dump(mode="json"), "page": str(place / page.PAGE)}
    return Outcome(f"{text(description)}\n\nPage: {place / page.PAGE}", data)


def _outcome(report: "DataReport", *more: str) -> Outcome:
    rows = [f"  {s.name:<6}{s.num_images:>6} images, {s.num_captions} captions" for s in report.splits]
    notes = [f"  {note}" for note in report.notes]
    head = f"{report.path}: whole, {report.resolution} px"
    return Outcome("\n".join([head, *rows, *notes, *more]), report.model_dump(mode="json"))
