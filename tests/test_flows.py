"""The night under a real Prefect: what runs, what is kept, what is retried."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from shoes.errors import DataError, Problem, TrackingUnavailable
from shoes.spec import Recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")

STAGES = [
    "verify-environment",
    "fetch-model",
    "prepare-data",
    "forecast",
    "train-lora",
    "evaluate",
    "promote",
    "report",
]


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def task_runs(flow_name: str) -> list[object]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import TaskRunSort

    async def read() -> list[object]:
        async with get_client() as client:
            named = FlowFilter(name=FlowFilterName(any_=[flow_name]))
            return await client.read_task_runs(flow_filter=named, sort=TaskRunSort.EXPECTED_START_TIME_ASC)

    return asyncio.run(read())


def test_the_night_runs_and_is_told_twice_the_same(prefect: None, night, in_night) -> None:
    from flows.overnight import overnight

    first = overnight(night.recipe)
    assert first.train == night.training, "the training was there already"
    assert first.verdict == overnight(night.recipe).verdict
    assert first.run_id is not None
    assert (night.training.run_dir / "night.json").is_file()
    names = [run.name.rpartition("-")[0] for run in task_runs("overnight")]
    assert sorted(names) == sorted([*STAGES, *STAGES])


def test_stages_run_alone(prefect: None, night, in_night) -> None:
    from flows import overnight as flows

    assert flows.verify_environment(night.recipe).ready
    assert flows.fetch_model(night.recipe).base.fingerprint == night.models.base.fingerprint
    assert flows.prepare_data(night.recipe).fingerprint == night.data.fingerprint
    assert flows.train_lora(night.recipe) == night.training
    assert flows.evaluate(night.recipe) == night.evaluation


def test_an_evaluation_without_a_training_says_what_to_do(prefect: None, micro: Callable[..., Recipe]) -> None:
    from flows.overnight import evaluate
    from shoes.errors import TrainingError

    with pytest.raises(TrainingError, match="shoes train"):
        evaluate(micro())


def test_a_bad_value_is_refused_before_any_task(prefect: None, night) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.overnight import fetch_model

    before = len(task_runs("fetch-model"))
    recipe = night.recipe.model_dump(mode="json")
    recipe["train"]["rank"] = 0
    with pytest.raises(ParameterTypeError, match=r"train.rank"):
        fetch_model(recipe)
    assert len(task_runs("fetch-model")) == before


@pytest.mark.parametrize(
    ("error", "tries"),
    [(TrackingUnavailable("away"), 3), (DataError([Problem("data", "is bad", "mend it")]), 1)],
)
def test_only_what_waiting_can_mend_is_retried(
    prefect: None, night, in_night, monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int
) -> None:
    from prefect import flow

    from tasks import stages as tasks

    calls = []

    def fail(recipe: Recipe) -> None:
        calls.append(recipe)
        raise error

    monkeypatch.setattr("shoes.stages.prepare_data", fail)

    @flow(name="trial")
    def trial(recipe: Recipe) -> None:
        tasks.prepare_data.with_options(retries=2, retry_delay_seconds=0)(recipe)

    with pytest.raises(type(error)):
        trial(night.recipe)
    assert len(calls) == tries


def test_every_deployment_points_at_a_flow_that_takes_its_parameters() -> None:
    import importlib

    import yaml

    from shoes.settings import PROJECT_ROOT

    document = yaml.safe_load((PROJECT_ROOT / "prefect.yaml").read_text())
    names = {deployment["name"] for deployment in document["deployments"]}
    assert {"overnight", "prototype", "demo", *STAGES} == names
    for deployment in document["deployments"]:
        path, _, function = deployment["entrypoint"].partition(":")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        getattr(module, function).validate_parameters(deployment["parameters"])
