"""The smallest data sets that people have: each ends with a verdict, with a reason for none, or is refused before."""

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from shoes import dataset, language, night, recipes, stages
from shoes.dataset import Product
from shoes.dataset.splits import SPLITS
from shoes.environment.check import Situation
from shoes.errors import ConfigurationError, DataError
from shoes.preflight import preflight
from shoes.reports import FEW_UNITS, EnvironmentReport, NightReport
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.spec import DataSpec, Recipe
from tests.conftest import DEMO_MODEL, MICRO

if TYPE_CHECKING:
    from mlflow.entities import Run

ONE = "A professional product photo of casual shoes, centered on white background"
UNKNOWN = "a photo of sks shoe"
"""Words that the demo's CLIP has never read."""


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


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
    """A recipe of two steps for a folder of photos."""

    def make(source: Path, changes: Mapping[str, str] | None = None) -> Recipe:
        few = {"train.max_train_steps": "2", "train.save_steps": "1", "train.validation_steps": "1"}
        data = {"data.dataset_dir": "data/tiny", "data.source": str(source)}
        return recipes.load("demo", {**MICRO, **DEMO_MODEL, **few, **data, **(changes or {})})

    return make


def whole_night(recipe: Recipe) -> NightReport:
    """All stages, without Prefect."""
    preflight(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose(recipe, models, data, stages.train(recipe, models, data))
    training = stages.prove(recipe, models, data, training)
    evaluation = stages.evaluate(recipe, models, data, training)
    promotion = stages.promote(recipe, models, data, training, evaluation)
    checked = EnvironmentReport(ready=True, checks=(), device="cpu", seconds=0)
    return night.report(recipe, checked, models, data, training, evaluation, promotion)


def assert_told(found: NightReport) -> None:
    """A night that came to its end: a verdict or why there is none, the same everywhere, and only finite numbers."""
    undecided = found.evaluation.undecided
    comparison = found.evaluation.comparisons[0]
    assert undecided or comparison.clip_score is not None
    if undecided:
        assert found.verdict == f"No verdict, because {undecided}."
        assert (found.promoted, found.promotion.reason) == (False, f"no verdict, because {undecided}")
    else:
        assert found.verdict.startswith(("The adapter draws", "No reliable difference", "No difference"))
        assert ("over only" in found.verdict) == (comparison.clip_score.num_clusters < FEW_UNITS)
    assert found.verdict in found.page.read_text(encoding="utf-8").replace("&#39;", "'")
    assert not re.search(r"\b(nan|None|inf)\b", found.text)
    events = [json.loads(line) for line in (found.train.run_dir / "journal.jsonl").read_text().splitlines()]
    measured = [value for event in events if event["kind"] == "metrics" for value in event["values"].values()]
    assert all(map(math.isfinite, measured))
    tags = mlflow_run(found).data.tags
    assert tags["promotion_reason"] == found.promotion.reason


def mlflow_run(found: NightReport) -> "Run":
    from mlflow import MlflowClient

    return MlflowClient(load_settings().tracking_uri).get_run(found.run_id)


@pytest.mark.parametrize(
    ("number", "caption", "changes", "counts", "is_decided"),
    [
        (6, None, {}, (2, 2, 2), False),
        (10, ONE, {"eval.images_per_caption": "2"}, (6, 2, 2), True),
        slow(6, ONE, {}, (2, 2, 2), False),
        slow(8, None, {}, (4, 2, 2), False),
        slow(8, ONE, {}, (4, 2, 2), False),
        slow(10, None, {"eval.half_width": "2"}, (6, 2, 2), False),
        slow(10, ONE, {"eval.half_width": "2"}, (6, 2, 2), True),
        slow(20, None, {}, (14, 3, 3), True),
        slow(20, UNKNOWN, {}, (14, 3, 3), False),
        slow(20, ONE, {"gate.metric": "clip_image_similarity"}, (14, 3, 3), True),
    ],
)
def test_every_small_set_comes_through_the_night(
    made_of: Callable[..., Recipe],
    tmp_path: Path,
    number: int,
    caption: str | None,
    changes: Mapping[str, str],
    counts: tuple[int, int, int],
    is_decided: bool,
) -> None:
    found = whole_night(made_of(give(tmp_path / "photos", number, caption), changes))
    splits = [len(dataset.load_split(tmp_path / "data/tiny" / split, decode=False)) for split in SPLITS]
    assert tuple(splits) == counts
    assert (found.evaluation.undecided == "") == is_decided
    assert_told(found)


@pytest.mark.slow
@pytest.mark.parametrize("caption", [None, ONE])
def test_one_photo_to_validate_with_and_one_to_judge_by_end_no_night(
    made_of: Callable[..., Recipe], tmp_path: Path, caption: str | None
) -> None:
    """As data sets of ten photos were split before, and as validation folders of a person's own may be."""
    recipe = made_of(give(tmp_path / "photos", 8, caption))
    stages.prepare_data(recipe)
    folder = tmp_path / "data/tiny"
    products = [
        Product(record.image.stem, record.attributes, partial(Image.open, record.image), caption=record.caption)
        for split in SPLITS
        for record in dataset.load_split(folder / split)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shoes.dataset.splits.LEAST_PHOTOS", 1)
        patch.setattr("shoes.dataset.writer.too_small", lambda placed: {})
        spec, old = DataSpec(seed=3), tmp_path / "data/old"
        dataset.write_data_set(old, products, spec, resolution=64, source={"kind": "test"})
    splits = {split: len(dataset.load_split(old / split)) for split in SPLITS}
    assert (splits["val"], splits["test"]) == (1, 1)
    found = whole_night(made_of(tmp_path / "photos", {"data.dataset_dir": "data/old"}))
    assert found.train.losses[0].standard_error is None
    assert_told(found)


@pytest.mark.parametrize("number", [6, 8, 10, 20])
def test_photos_that_are_all_equal_are_refused_before_anything_is_trained(
    made_of: Callable[..., Recipe], tmp_path: Path, number: int
) -> None:
    recipe = made_of(give(tmp_path / "photos", number, photo=0))
    preflight(recipe)
    with pytest.raises(DataError, match="all of them are near-duplicates") as caught:
        stages.prepare_data(recipe)
    assert "at least 6 that are no near-duplicates" in str(caught.value)
    assert not (tmp_path / "data/tiny").exists()


@pytest.mark.parametrize("number", [1, 3, 5])
def test_fewer_than_six_photos_are_refused_at_once(made_of: Callable[..., Recipe], tmp_path: Path, number: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"holds {number} photos?, and 6 are the least"):
        preflight(made_of(give(tmp_path / "photos", number, ONE)))


def test_a_data_set_that_can_have_no_verdict_is_told_by_the_check_and_before_the_training(
    made_of: Callable[..., Recipe], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from shoes.environment.checks.inputs import data_set

    recipe = made_of(give(tmp_path / "photos", 6))
    stages.prepare_data(recipe)
    assert "will have no verdict: 2 captions can't speak for the others" in caplog.text
    found = data_set(Situation(recipe, load_settings(), "by itself"))
    assert (found.status, "2 test captions can't speak" in found.detail) == ("WARN", True)
    with language.use("pt"):
        assert "2 legendas de teste" in data_set(Situation(recipe, load_settings(), "by itself")).detail
