"""The smallest data sets that people have: each ends with a verdict, with a reason for none, or is refused before."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shoes import dataset, night, recipes, stages
from shoes.preflight import preflight
from shoes.reports import NightReport
from shoes.settings import PROJECT_ROOT
from shoes.spec import Recipe
from tests.conftest import MICRO

ONE = "a photo of sks shoe"


def give(folder: Path, number: int, caption: str | None = None, photo: int | None = None) -> Path:
    """A folder of photos of the demo with a text beside each.

    Args:
        number: of photos.
        caption: of all of them; none: each has one of its own.
        photo: which one all of them are; none: they differ.
    """
    folder.mkdir(parents=True)
    records = dataset.load_split(PROJECT_ROOT / "data/demo/casual_shoes/train", decode=False)
    for place in range(number):
        record = records[place if photo is None else photo]
        shutil.copyfile(record.image, folder / f"{place:02}.png")
        (folder / f"{place:02}.txt").write_text(caption or f"{record.caption}, number {place}", encoding="utf-8")
    return folder


@pytest.fixture
def made_of(own_world: Path) -> Callable[..., Recipe]:
    """A micro recipe for a folder of photos."""

    def make(source: Path, **changes: str) -> Recipe:
        names = {name.replace("__", "."): value for name, value in changes.items()}
        return recipes.load("demo", {**MICRO, "data.dataset_dir": "data/tiny", "data.source": str(source), **names})

    return make


def whole_night(recipe: Recipe) -> NightReport:
    """All stages, without Prefect."""
    preflight(recipe)
    environment = stages.verify_environment(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose(recipe, models, data, stages.train(recipe, models, data))
    evaluation = stages.evaluate(recipe, models, data, training)
    promotion = stages.promote(recipe, models, data, training, evaluation)
    return night.report(recipe, environment, models, data, training, evaluation, promotion)
