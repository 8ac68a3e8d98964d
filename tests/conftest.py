"""Every test in a world of its own: own folders, own databases, and nothing of the person's who runs it."""

import tests.entering  # noqa: F401 - first: it leaves the person's world before a library reads a variable

# isort: split
import gc
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from shoes.reports import DataReport, EvaluationReport, ModelsReport, PromotionReport, TrainReport
from shoes.settings import PROJECT_ROOT
from shoes.spec import Recipe
from tests import world
from tests.hub.client import point_at
from tests.hub.server import HubServer
from tests.prefect_server import prefect, prefect_process
from tests.summary import pytest_addoption, pytest_sessionfinish, pytest_terminal_summary

__all__ = ["prefect", "prefect_process", "pytest_addoption", "pytest_sessionfinish", "pytest_terminal_summary"]

if TYPE_CHECKING:
    from tests.emulated.tensor import Computer

MICRO = {
    "model.pretrained_model_name_or_path": "data/shallow",
    "data.dataset_dir": "data/small",
    "train.train_batch_size": "2",
    "train.gradient_accumulation_steps": "2",
    "train.eval_batch_size": "8",
    "train.max_train_steps": "4",
    "train.lr_warmup_steps": "1",
    "train.save_steps": "2",
    "train.validation_steps": "2",
    "train.validation_images": "4",
    "train.validation_prompts": "a shoe",
    "train.checkpointing_steps": "2",
    "eval.num_images": "none",
    "eval.num_inference_steps": "2",
    "eval.num_resamples": "200",
}
"""The demo, small enough for a test; what it names is put into a data folder by `furnish`."""
DEMO_MODEL = {"model.pretrained_model_name_or_path": "data/demo/model"}
"""The demo's own base, where it is the subject."""


LONG = ("browser", "training", "operations", "forecast")
"""Folders whose files take minutes: they come first, so that no worker is alone with one at the end."""


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one more than cores, because a test that waits for a server leaves one idle."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(folder) if (folder := item.path.parent.name) in LONG else len(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Iterator[object]:
    """What a wider fixture starts is not the test's that asked for it first, and knows no folder of it."""
    if fixturedef.scope == "function":
        return (yield)
    with world.outside_of_tests():
        return (yield)


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect() -> None:
    """What is there when a file of tests begins, libraries above all, is not looked through again.

    Each full collection takes a third of a second with all libraries loaded, and trainings make several.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder and data folder; what the test starts dies with it."""
    before = dict(os.environ)
    for name in filter(world.is_setting, before.keys() - world.VARIABLES.keys()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("SHOES_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SHOES_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)
    world.begin_test()
    yield tmp_path
    world.end_test()
    for name in os.environ.keys() - before.keys():  # commands set variables for the processes that they start
        del os.environ[name]


@pytest.fixture(scope="session")
def micro_flags() -> list[str]:
    """The micro recipe as flags of the command line."""
    return [word for name, value in MICRO.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what all tests use, in whatever process, and nobody changes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder that is made by the process that needs it first, while the others wait."""
    done = folder.with_name(f"{folder.name}.done")
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what one that failed has left
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def small_data(shared: Path, shallow_model: Path) -> Path:
    """28 products of the demo's data set, as a data set of their own, beside the shallow model and `MADE_OF_THEM`."""
    small = made_once(shared / "small", make_small_data)
    made_once(shared / "ahead", _make_ahead)
    return small


MADE_OF_THEM = ("descriptions", "cache/latents")
"""What each first training on the small data makes of it and the shallow model, in parts of a data folder."""


def furnish(data: Path, small_data: Path, made: Sequence[str] = MADE_OF_THEM) -> Path:
    """Have in a data folder what the micro recipe names, and what has been made of it; the folder."""
    data.mkdir(parents=True, exist_ok=True)
    there = small_data.resolve().parent
    for name in ("small", "shallow"):
        (data / name).symlink_to(there / name)
    for name in made:
        shutil.copytree(there / "ahead" / name, data / name)
    return data


def _make_ahead(folder: Path) -> None:
    from shoes import recipes, stages
    from shoes.training.cache import open_cache
    from shoes.training.run import make_job
    from shoes.training.session import cache_key

    furnish(folder, folder.with_name("small"), made=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOES_DATA_DIR", str(folder))
        recipe = recipes.load("demo", MICRO)
        models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
        job = make_job(recipe, models.base, data, runs=folder / "runs", cache=folder / "cache")
        for which in (0, 1):
            open_cache(cache_key(job, "cpu", which), batch_size=job.spec.eval_batch_size, on_progress=lambda *_: None)


def make_small_data(target: Path) -> Path:
    from PIL import Image

    from shoes import dataset
    from shoes.dataset import Product
    from shoes.spec import DataSpec

    records = dataset.load_split(PROJECT_ROOT / "data/demo/casual_shoes/train")[:28]
    products = [
        Product(
            id=record.image.stem,
            attributes=record.attributes,
            load=lambda path=record.image: Image.open(path).convert("RGB"),
        )
        for record in records
    ]
    spec = DataSpec(val_fraction=0.2, test_fraction=0.2)
    dataset.write_data_set(target, products, spec, resolution=64, source={"kind": "test"})
    return target


@pytest.fixture(scope="session")
def shallow_model(shared: Path) -> Path:
    """A base model that computes little (`tests.shallow`)."""
    from tests.shallow import make_shallow_model

    return made_once(shared / "shallow", make_shallow_model)


@pytest.fixture
def with_small_data(own_world: Path, small_data: Path) -> Path:
    """The data folder, with the small data set in it."""
    return furnish(own_world / "data", small_data)


@pytest.fixture
def micro(with_small_data: Path) -> Callable[..., Recipe]:
    """Makes micro recipes: `micro({"train.seed": "1"})`."""

    def make(changes: Mapping[str, str] | None = None) -> Recipe:
        from shoes import recipes

        return recipes.load("demo", {**MICRO, **(changes or {})})

    return make


@dataclass(frozen=True)
class Night:
    """All stages of one micro night, done once for all tests that only look at it."""

    recipe: Recipe
    data_dir: Path
    models: ModelsReport
    data: DataReport
    training: TrainReport
    evaluation: EvaluationReport
    promotion: PromotionReport


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Iterator[Night]:
    """A micro night without Prefect, in a data folder of its own."""
    from shoes import recipes, stages

    folder = furnish(tmp_path_factory.mktemp("night") / "data", small_data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOES_DATA_DIR", str(folder))
        patch.setenv("SHOES_LOCK_DIR", str(folder.parent / "locks"))
        recipe = recipes.load("demo", MICRO)
        models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
        training = stages.choose(recipe, models, data, stages.train(recipe, models, data))
        training = stages.prove(recipe, models, data, training)
        evaluation = stages.evaluate(recipe, models, data, training)
        promotion = stages.promote(recipe, models, data, training, evaluation)
        yield Night(recipe, folder, models, data, training, evaluation, promotion)


@pytest.fixture
def in_night(night: Night, monkeypatch: pytest.MonkeyPatch) -> Night:
    """The shared night, with this test's settings pointing at its data folder."""
    monkeypatch.setenv("SHOES_DATA_DIR", str(night.data_dir))
    return night


@pytest.fixture
def mps() -> Iterator["Computer"]:
    """A Mac's GPU in this process (`tests.emulated.mps`): an M2 Max's."""
    from tests.emulated.mps import emulated_mps

    with emulated_mps() as device:
        yield device


@pytest.fixture
def hub(own_world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on this machine; the real client talks to it, here and in processes that a test starts."""
    from huggingface_hub import close_session

    with HubServer() as server:
        point_at(server.url, own_world / "hub-home", monkeypatch)
        yield server
        close_session()
