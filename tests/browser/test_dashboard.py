"""A person's evening and morning in a real browser, against the real servers of `shoes up`.

python -m pytest tests/browser/test_dashboard.py --pictures docs/images/operating --basetemp /tmp/shoes
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from demo.browser import find
from shoes.settings import PROJECT_ROOT
from shoes.tracking.journal import read_events
from tests.browser.dashboard import Dashboard
from tests.browser.runs import Runs
from tests.conftest import make_small_data
from tests.operations.live import LiveUp
from tests.shallow import make_shallow_model

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, FloatRect, Page

Picture = Callable[..., None]
"""Takes a picture of what a page shows, under a name, when pictures are wanted."""
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(find() is None, reason="Chromium is not installed"),
]
SMALL = {
    "model.pretrained_model_name_or_path": "data/shallow",
    "data.dataset_dir": "data/small",
    "train.train_batch_size": "2",
    "train.gradient_accumulation_steps": "2",
    "train.eval_batch_size": "8",
    "train.lr_warmup_steps": "1",
    "train.max_train_steps": "6",
    "train.save_steps": "3",
    "train.validation_steps": "3",
    "train.validation_images": "4",
    "train.checkpointing_steps": "3",
    "eval.num_inference_steps": "3",
    "eval.num_resamples": "200",
}
"""What is typed into the form so that the demo takes seconds."""
BEFORE = (
    *("verify-environment", "fetch-model", "prepare-data", "forecast"),
    *("train-lora", "choose-checkpoint", "prove-export"),
)
AFTER = ("evaluate", "promote", "report")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveUp]:
    up = LiveUp(tmp_path_factory.mktemp("up"))
    make_small_data(up.data / "small")
    make_shallow_model(up.data / "shallow")
    with up:
        yield up


@pytest.fixture
def page(desk: "BrowserContext") -> "Iterator[Page]":
    page = desk.new_page()
    yield page
    page.close()


@pytest.fixture
def dashboard(up: LiveUp, page: "Page") -> Dashboard:
    return Dashboard(page, up.ready["dashboard"])


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Picture:
    given: Path | None = request.config.getoption("--pictures", default=None)
    folder = request.config.invocation_params.dir / given if given else None

    def take(page: "Page", name: str, height: int = 900) -> None:
        if folder is not None:
            clip: FloatRect = {"x": 0, "y": 0, "width": 1440, "height": height}
            page.screenshot(path=folder / f"{name}.png", animations="disabled", clip=clip)

    return take


def test_every_deployment_is_listed(dashboard: Dashboard, picture: Picture) -> None:
    named = {one["name"] for one in yaml.safe_load((PROJECT_ROOT / "prefect.yaml").read_text())["deployments"]}
    dashboard.deployments()
    dashboard.page.get_by_text(f"{len(named)} Deployments").wait_for()
    for name in named:
        dashboard.page.get_by_role("link", name=name, exact=True).first.wait_for()
    picture(dashboard.page, "deployments")


def test_the_form_refuses_a_bad_value(up: LiveUp, dashboard: Dashboard, picture: Picture) -> None:
    dashboard.form("demo")
    picture(dashboard.page, "form")
    rank = dashboard.field("train.rank")
    rank.fill("0")
    dashboard.press_submit()
    assert rank.evaluate("field => field.matches(':invalid') && field.validationMessage") == (
        "Value must be greater than or equal to 1."
    )
    dashboard.page.mouse.move(700, 400)
    dashboard.page.mouse.wheel(0, -300)
    picture(dashboard.page, "refused-by-the-form")
    assert flow_runs(up) == []


@pytest.mark.slow
def test_a_field_that_is_not_known_is_refused(up: LiveUp, dashboard: Dashboard, picture: Picture) -> None:
    dashboard.form("demo")
    dashboard.give_json('{"name": "demo", "train": {"learn_rate": 0.1}}')
    dashboard.submit()
    dashboard.notice("Additional properties are not allowed ('learn_rate' was unexpected)")
    picture(dashboard.page, "refused-by-the-server")
    assert flow_runs(up) == []


@pytest.mark.slow
def test_a_bad_combination_is_refused_before_any_task(up: LiveUp, dashboard: Dashboard) -> None:
    """What no field can know by itself: the form can't see it, and the flow does."""
    dashboard.form("report")
    dashboard.fill({"data.val_fraction": "0.5", "data.test_fraction": "0.5"})
    dashboard.submit()
    dashboard.notice("scheduled to start now")
    (run,) = up.until(lambda: [run for run in flow_runs(up) if run["state_type"] == "FAILED"], 300)
    assert tasks(up, run["id"]) == []
    dashboard.run(run["id"], "Details")
    said = dashboard.page.get_by_text("val_fraction + test_fraction leave less than a fifth of the data to train on")
    said.first.wait_for()


def test_a_failed_stage_is_retried_and_only_it(up: LiveUp, dashboard: Dashboard, picture: Picture) -> None:
    run_id = start_small_run(up, dashboard)
    photos = lose_the_test_photos(up, run_id)
    dashboard.leave()
    wait_for(up, run_id, "FAILED")
    dashboard.run(run_id)
    dashboard.is_in("Failed").wait_for()
    dashboard.only_errors()
    dashboard.page.get_by_text("the folder is missing").first.wait_for()
    picture(dashboard.page, "failed", 790)  # below are tracebacks
    states = {task["name"].split(":")[0]: task["state_name"] for task in tasks(up, run_id)}
    assert states == {**dict.fromkeys(BEFORE, "Completed"), "evaluate": "Failed"}
    kept, written = journal(up).read_bytes(), what_is_trained(up)

    photos.rename(up.data / "small" / "test")
    dashboard.choose("Retry")
    picture(dashboard.page, "retry")
    dashboard.confirm("Retry")
    dashboard.notice("scheduled for retry")
    dashboard.leave()
    wait_for(up, run_id, "COMPLETED")
    dashboard.run(run_id, "Task Runs")
    dashboard.is_in("Completed").wait_for()
    dashboard.page.get_by_text("Cached", exact=True).first.wait_for()
    picture(dashboard.page, "retried")
    assert up.get(f"flow_runs/{run_id}")["run_count"] == 2
    second = {task["name"].split(":")[0]: task for task in tasks(up, run_id) if task["flow_run_run_count"] == 2}
    assert {name for name, task in second.items() if task["state_name"] == "Cached"} >= set(BEFORE[:4])
    assert {name: second[name]["state_name"] for name in AFTER} == dict.fromkeys(AFTER, "Completed")
    assert what_is_trained(up) == written
    assert journal(up).read_bytes().startswith(kept)
    new = list(read_events(journal(up), len(kept)))
    assert {event["id"].split("/")[0] for event in new} == {"evaluation", "promotion", "report"}


def test_the_night_is_seen_in_the_dashboard(up: LiveUp, dashboard: Dashboard, picture: Picture) -> None:
    run = completed(up)
    said = up.post("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200})
    assert "trained 6 steps in" in " ".join(line["message"] for line in said), "the library speaks in the run's log"
    dashboard.run(run["id"])
    cards = dashboard.tab("Artifacts")
    for name in ("environment", "forecast", "training", "samples", "verdict", "report"):
        cards.get_by_text(name, exact=True).first.wait_for()
    picture(dashboard.page, "artifacts")
    dashboard.artifact("verdict")
    drawn = dashboard.page.get_by_role("img", name="The same captions and seeds, drawn by base and adapter")
    drawn.wait_for()
    assert drawn.evaluate("image => image.naturalWidth") > 0
    picture(dashboard.page, "verdict")
    dashboard.page.get_by_role("link", name="Report in MLflow").click()
    report = dashboard.page.frame_locator("iframe")
    report.get_by_role("heading", level=1).wait_for()


def test_mlflow_shows_the_one_run(up: LiveUp, page: "Page", picture: Picture) -> None:
    title = completed(up)["name"]
    pages = Runs(page, up.ready["mlflow"])
    pages.experiment("casual-shoes-lora-demo")
    page.get_by_text("1 matching run").wait_for()
    page.get_by_role("link", name=title, exact=True).first.wait_for()
    picture(page, "mlflow-runs")
    pages.open(title)
    page.get_by_role("link", name="Flow run in Prefect").wait_for()
    pages.tab("Model metrics")
    charts = page.get_by_placeholder("Search metric charts")
    charts.fill("val/loss")
    page.get_by_text(f"{title} (val/loss)").wait_for()
    charts.fill("train/")
    page.get_by_text(f"{title} (train/loss)").wait_for()
    picture(page, "mlflow-curves")
    pages.tab("Artifacts")
    pages.file("samples", "step-000006.png")
    sample = page.locator("img[src^='blob:'], img[src*='get-artifact']").first
    sample.wait_for()
    assert sample.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.get_by_text("step-000000.png").click(trial=True)  # once the tree stands still
    picture(page, "mlflow-samples")
    pages.file("report", "index.html")
    page.frame_locator("iframe").get_by_role("heading", name="Pictures", exact=True).wait_for()
    picture(page, "mlflow-report")


def test_a_link_in_mlflow_leads_back_to_the_flow_run(up: LiveUp, page: "Page") -> None:
    title = completed(up)["name"]
    pages = Runs(page, up.ready["mlflow"])
    pages.experiment("casual-shoes-lora-demo")
    pages.open(title)
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Flow run in Prefect").click()
    opened.value.get_by_role("main").get_by_text("Completed", exact=True).first.wait_for()
    opened.value.close()


def start_small_run(up: LiveUp, dashboard: Dashboard) -> str:
    """A run of the demo with other values, typed into the form; its id."""
    dashboard.form("demo")
    dashboard.fill(SMALL)
    dashboard.submit()
    dashboard.notice("scheduled to start now").get_by_role("button", name="View run").click()
    dashboard.page.wait_for_url("**/runs/flow-run/*")
    run_id = urlsplit(dashboard.page.url).path.rsplit("/", 1)[-1]
    assert up.get(f"flow_runs/{run_id}")["parameters"]["recipe"]["train"]["max_train_steps"] == 6
    return run_id


def lose_the_test_photos(up: LiveUp, run_id: str) -> Path:
    """Somebody moves a folder of the data set away once it was verified; where it is."""
    up.until(lambda: any(task["name"].startswith("forecast") for task in tasks(up, run_id)), 300)
    return (up.data / "small" / "test").rename(up.data / "moved-away")


def flow_runs(up: LiveUp) -> list[dict[str, Any]]:
    """Those that somebody has started."""
    found = up.post("flow_runs/filter", {"sort": "START_TIME_DESC"})
    return [run for run in found if not run["auto_scheduled"]]


def completed(up: LiveUp) -> dict[str, Any]:
    found = [run for run in flow_runs(up) if run["state_type"] == "COMPLETED"]
    if not found:
        pytest.skip("there is no night to look at: test_a_failed_stage_is_retried_and_only_it makes it")
    return found[0]


def tasks(up: LiveUp, run_id: str) -> list[dict[str, Any]]:
    return up.post("task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})


def wait_for(up: LiveUp, run_id: str, state: str) -> None:
    """Until a run has ended, which must be in this state."""

    def ended() -> dict[str, Any] | None:
        run = up.get(f"flow_runs/{run_id}")
        return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

    run = up.until(ended, 600)
    assert run["state_type"] == state, run["state"]["message"]


def journal(up: LiveUp) -> Path:
    (found,) = (up.data / "runs").glob("*/journal.jsonl")
    return found


def what_is_trained(up: LiveUp) -> dict[str, int]:
    """Files that the training and the choice of a checkpoint have left, with the time when each was written."""
    folders = ("checkpoints", "candidates", "validation", "samples", "choice", "adapter")
    files = [file for name in folders for file in (journal(up).parent / name).rglob("*") if file.is_file()]
    return {str(file): file.stat().st_mtime_ns for file in files}
