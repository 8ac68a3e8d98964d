"""The night under a real Prefect: what runs, what is kept, what is retried."""

import asyncio
import errno
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from shoes import stages
from shoes.errors import DataError, Problem, TrackingUnavailable
from shoes.reports import PausedTraining
from shoes.spec import Recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")

STAGES = [
    "verify-environment",
    "fetch-model",
    "prepare-data",
    "forecast",
    "train-lora",
    "choose-checkpoint",
    "prove-export",
    "evaluate",
    "promote",
    "report",
]


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
    from tasks.timeline import stage_name

    first = overnight(night.recipe)
    assert first.train == night.training, "the training was there already"
    assert first.verdict == overnight(night.recipe).verdict
    assert first.run_id is not None
    assert (night.training.run_dir / "night.json").is_file()
    runs = [run.name for run in task_runs("overnight")]
    assert sorted(map(stage_name, runs)) == sorted([*STAGES, *STAGES])
    assert "train-lora: 4 steps, rank 8" in runs
    assert latest_run("overnight").name == night.recipe.title == "demo shallow r8 4"


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


class Heard(logging.Handler):
    """What a logger was told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the log of task runs says."""
    handler = Heard()
    monkeypatch.setattr(logging.getLogger("prefect.task_runs"), "handlers", [handler])
    return handler.lines


AGAIN = "Waiting can mend that, so it is tried again by itself: try {} of 3 comes next"
FINAL = "not tried again: {}, and waiting can't mend that. Please "


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            TrackingUnavailable("away"),
            [
                f"MLflow did not answer. {AGAIN.format(2)}",
                "Task run failed with exception: TrackingUnavailable('away') - Retry 1/2 will start immediately",
                f"MLflow did not answer. {AGAIN.format(3)}",
                "Task run failed with exception: TrackingUnavailable('away') - Retry 2/2 will start immediately",
                "Task run failed with exception: TrackingUnavailable('away') - Retries are exhausted",
            ],
        ),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
            [f"the network or a server did not answer. {AGAIN.format(2)}"],
        ),
        (
            DataError([Problem("data", "is bad", "mend it")]),
            [FINAL.format("the configuration, the data or the model is not right")],
        ),
        (OSError(errno.ENOSPC, "No space left on device"), [FINAL.format("the disk is full")]),
    ],
    ids=["tracking", "network", "data", "disk"],
)
def test_only_what_waiting_can_mend_is_tried_again_and_the_log_says_why(
    prefect: None,
    night,
    in_night,
    monkeypatch: pytest.MonkeyPatch,
    heard: list[str],
    error: Exception,
    said: list[str],
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
    assert len(calls) == (1 if "not tried again" in said[0] else 3)
    assert len([line for line in heard if "not tried again" in line]) == (len(calls) == 1)
    for line, expected in zip(heard, said, strict=False):
        assert line.startswith(expected)


def test_the_librarys_lines_stand_in_the_runs_log(
    prefect: None, night, in_night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.overnight import prepare_data

    lines, log = Heard(), logging.getLogger("shoes")
    monkeypatch.setattr(log, "handlers", [lines])  # as Prefect's own is there, by PREFECT_LOGGING_EXTRA_LOGGERS
    monkeypatch.setattr(logging.getLogger("shoes.stages"), "level", logging.NOTSET)
    monkeypatch.setattr(log, "level", logging.NOTSET)
    prepare_data(night.recipe)
    assert any("stratified together" in line for line in lines.lines)
    assert log.level == logging.NOTSET, "as it was before"


@pytest.mark.parametrize(("error", "has_places"), [(DataError([Problem("a", "b", "c")]), False), (KeyError("x"), True)])
def test_an_error_that_says_what_to_do_is_told_without_a_traceback(
    prefect: None, night, in_night, monkeypatch: pytest.MonkeyPatch, error: Exception, has_places: bool
) -> None:
    from flows.overnight import prepare_data

    def fail(recipe: Recipe) -> None:
        raise error

    records: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = records.append  # type: ignore[method-assign]
    monkeypatch.setattr("shoes.stages.prepare_data", fail)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [listener])
    with pytest.raises(type(error)):
        prepare_data(night.recipe)
    assert any("xception" in record.getMessage() for record in records), "Prefect tells it"
    assert any(record.exc_info for record in records) == has_places


def test_a_stage_that_hangs_is_ended_at_its_limit_and_not_tried_again(
    prefect: None, night, in_night, monkeypatch: pytest.MonkeyPatch, heard: list[str]
) -> None:
    from prefect import flow

    from tasks import stages as tasks

    calls = []

    def hang(recipe: Recipe) -> None:
        calls.append(recipe)
        while True:
            threading.Event().wait(0.05)

    monkeypatch.setattr("shoes.stages.prepare_data", hang)

    @flow(name="hanging")
    def trial(recipe: Recipe) -> None:
        tasks.prepare_data.with_options(timeout_seconds=1)(recipe)

    with pytest.raises(TimeoutError):
        trial(night.recipe)
    assert len(calls) == 1
    assert heard[0].startswith(FINAL.format("it took longer than its limit, 1.0 s"))
    assert heard[1] == "Task run exceeded timeout of 1.0 second(s)"
    (run,) = task_runs("hanging")
    assert (run.state.type.value, run.state.name) == ("FAILED", "TimedOut")
    assert latest_run("hanging").state.name == "TimedOut", "the flow run too"


def test_every_stage_has_a_limit_and_a_description() -> None:
    from flows import overnight as flows
    from tasks import retrying
    from tasks import stages as tasks

    found = {task.name: task for task in vars(tasks).values() if hasattr(task, "task_key")}
    assert set(found) == {*STAGES, "find-training"} == set(retrying.LIMITS)
    for name, task in found.items():
        assert task.timeout_seconds == retrying.LIMITS[name]
        assert len(task.description) > 80
    for name in ("overnight", *STAGES):
        if name not in {"choose-checkpoint", "prove-export"}:
            assert len(getattr(flows, name.replace("-", "_")).description) > 80


@pytest.mark.parametrize(("hours_left", "limit"), [(None, 7 * 24), (9, 11)])
def test_the_trainings_limit_is_that_of_its_window(
    monkeypatch: pytest.MonkeyPatch, hours_left: float | None, limit: float
) -> None:
    from flows import overnight as flows
    from shoes import clock
    from tasks import stages as tasks

    given = []

    def with_options(**options: float) -> Callable[..., None]:
        given.append(options["timeout_seconds"] / 3600)
        return lambda *words: None

    monkeypatch.setattr(tasks.train_lora, "with_options", with_options)
    ends = None if hours_left is None else clock.later(clock.now(), 3600 * hours_left)
    flows._train(None, None, None, ends)  # type: ignore[arg-type]
    assert given == [pytest.approx(limit, abs=0.1)]


def artifact(key: str) -> Any:
    from prefect.artifacts import Artifact

    return Artifact.get(key)


def test_progress_and_pictures_are_shown_while_it_trains(
    prefect: None, micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from flows.overnight import train_lora
    from shoes.settings import load_settings

    monkeypatch.setattr("tasks.live.SECONDS_BETWEEN_POSTS", 0.1)
    report = train_lora(micro({"train.seed": "11"}))
    found = artifact("training")
    assert (found.type, float(found.data)) == ("progress", 100)
    assert found.description.startswith(f"step {report.step} of 4, loss ")
    progress, _, footer = found.description.partition("\n\n")
    assert progress.endswith("all done")
    pages = re.fullmatch(
        r"\[Run in MLflow\]\(http://127.0.0.1:5001/#/experiments/(\d+)/runs/([0-9a-f]{32})\?.*\)", footer
    )
    assert pages is not None, "the progress leads to the run in MLflow"
    samples = artifact("samples")
    assert samples.type == "markdown"
    assert samples.data.startswith("**After 4 steps**")
    assert len(samples.data.partition("(data:image/jpeg;base64,")[2]) > 5000
    assert pages[0] in samples.data
    run = MlflowClient(load_settings().tracking_uri).get_run(pages[2])
    assert run.info.experiment_id == pages[1]
    page = run.data.tags["prefect.flow_run_url"]
    assert str(latest_run("train-lora").id) in page
    assert f"[Flow run in Prefect]({page})" in run.data.tags["mlflow.note.content"]
    assert "demo shallow r8 4" in run.data.tags["mlflow.note.content"]
    assert found.task_run_id in {run.id for run in task_runs("train-lora")}
    assert not [thread for thread in threading.enumerate() if thread.name == "live-progress"]


def test_a_dashboard_that_is_away_costs_one_line(prefect: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow, task

    from tasks import live

    tries: list[threading.Thread] = []

    def away(**words: object) -> None:
        tries.append(threading.current_thread())
        raise OSError("connection refused")

    monkeypatch.setattr(live, "create_progress_artifact", away)
    monkeypatch.setattr(live, "SECONDS_BETWEEN_POSTS", 0.01)
    heard = Heard()
    monkeypatch.setattr(logging.getLogger("prefect.task_runs"), "handlers", [heard])

    @task
    def work() -> str:
        with live.live("away") as report:
            for step in range(1, 1000):
                report(step, 1000)
                if len(tries) >= 3:
                    return "done"
                threading.Event().wait(0.05)
        return "the dashboard was not tried again"

    @flow
    def trial() -> str:
        return work()

    assert trial() == "done"
    assert threading.main_thread() not in tries
    assert [line for line in heard.lines if "dashboard" in line] == [
        "the dashboard can't be told of the progress; the training goes on: connection refused"
    ]


def pause_once(monkeypatch: pytest.MonkeyPatch, night: Any) -> PausedTraining:
    """The first training of the test stops at its second step; later ones are real."""
    report = PausedTraining(
        run_dir=night.training.run_dir,
        step=2,
        reason="the window ends at 07:00",
        seconds=8,
        **{name: getattr(night.training, name) for name in ("fingerprint", "max_train_steps", "device", "precision")},
    )
    real, first = stages.train, iter([report])
    monkeypatch.setattr("shoes.stages.train", lambda *given: next(first, None) or real(*given))
    return report


def latest_run(flow_name: str) -> Any:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        named = FlowFilter(name=FlowFilterName(any_=[flow_name]))
        return client.read_flow_runs(flow_filter=named, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]


def retry(flow: Any, run: Any, recipe: Recipe) -> Any:
    """What `prefect flow-run retry` does."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Scheduled

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Scheduled(), force=True)
        return run_flow(flow, flow_run=client.read_flow_run(run.id), parameters={"recipe": recipe})


def test_a_night_that_pauses_ends_well_and_goes_on_when_it_is_retried(
    prefect: None, night, in_night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.overnight import overnight
    from tasks.timeline import stage_name

    paused = pause_once(monkeypatch, night)
    assert overnight(night.recipe) == paused
    run = latest_run("overnight")
    assert (run.state.type.value, run.state.name) == ("COMPLETED", "Paused at 2 of 4 steps")
    assert run.state.message.startswith("The training paused at 2 of 4 steps: the window ends at 07:00")
    assert PausedTraining.model_validate(run.state.result()) == paused, "the result is kept"
    assert "2 of 4 steps" in artifact("verdict").description
    told = retry(overnight, run, night.recipe)
    assert told.train == night.training
    run = latest_run("overnight")
    assert (run.run_count, run.state.name) == (2, "Completed")
    assert artifact("verdict").description == told.verdict
    states = {stage_name(task.name): task.state.name for task in task_runs("overnight")[-len(STAGES) :]}
    assert states["train-lora"] == states["evaluate"] == "Completed"


def test_a_training_that_pauses_alone_ends_well_too(
    prefect: None, night, in_night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.overnight import train_lora

    assert train_lora(night.recipe) == night.training, "what is kept of a finished one is not given for a paused one"
    paused = pause_once(monkeypatch, night)
    assert train_lora(night.recipe) == paused
    assert latest_run("train-lora").state.name == "Paused at 2 of 4 steps"
    assert retry(train_lora, latest_run("train-lora"), night.recipe) == night.training
