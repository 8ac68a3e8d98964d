"""A run whose process has died is closed, once, and may be taken up again."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from mlflow import MlflowClient

from shoes import recipes
from shoes.settings import Settings, load_settings
from shoes.tracking.journal import Journal, last_status, read_events
from shoes.tracking.mirror import Destination, Mirror, connect
from shoes.tracking.orphans import close_orphans
from shoes.tracking.recording import _without_none
from shoes.training.conclusion import seconds_spent
from shoes.training.run import run_lock
from tests.operations.live import free_port

HEARD = 1_700_000_123_000


@pytest.fixture
def settings(own_world: Path) -> Settings:
    return load_settings()


def dead_run(settings: Settings, *, sent: int, name: str = "abc") -> Path:
    """A run that was killed at its fifth step, of which MLflow got as many steps."""
    folder = settings.runs / name
    folder.mkdir(parents=True)
    recipe = recipes.load("demo")
    (folder / "spec.toml").write_text(tomli_w.dumps(_without_none(recipe.model_dump(mode="json"))))
    path = folder / "journal.jsonl"
    with Journal(path) as journal:
        journal.status("session/0", "RUNNING", step=0, time=HEARD - 6000)
        for step in range(1, 6):
            if step == sent + 1:
                Mirror(path, destination(settings, name)).send()
            time = HEARD - 1000 * (5 - step)
            journal.write(f"train/{step}", "metrics", step=step, values={"train/loss": 1 / step}, time=time)
    return path


def destination(settings: Settings, name: str = "abc") -> Destination:
    recipe = recipes.load("demo")
    return Destination(
        settings.tracking_uri, settings.mlruns / "artifacts", recipe.publish.experiment, recipe.title, name
    )


def in_mlflow(settings: Settings) -> tuple[Any, list[int]]:
    """The one run, and the steps of its loss."""
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name("casual-shoes-lora-demo")
    (run,) = client.search_runs([experiment.experiment_id])
    return run, sorted(point.step for point in client.get_metric_history(run.info.run_id, "train/loss"))


def test_it_is_closed_once_with_the_reason_and_the_time_of_its_death(settings: Settings) -> None:
    path = dead_run(settings, sent=3)
    assert in_mlflow(settings)[0].info.status == "RUNNING"
    (closed,) = close_orphans(settings)
    assert (closed.folder, closed.step, closed.is_sent) == (path.parent, 5, True)
    assert str(closed).startswith("demo r8 200: its process died at step 5, last heard of 2023-11-14 22:15 UTC")
    run, steps = in_mlflow(settings)
    assert (run.info.status, run.info.end_time) == ("KILLED", HEARD)
    assert run.data.tags["killed"] == "its process died at step 5; last heard of at 2023-11-14T22:15:23+00:00"
    assert steps == [1, 2, 3, 4, 5], "what it had not sent any more is sent too"
    before = path.read_bytes()
    assert close_orphans(settings) == []
    assert path.read_bytes() == before


def test_a_run_that_lives_is_left_alone(settings: Settings) -> None:
    path = dead_run(settings, sent=3)
    with run_lock(path.parent, timeout=0):
        assert close_orphans(settings) == []
    assert last_status(path)["status"] == "RUNNING"


def test_one_that_mlflow_never_heard_of_gets_there_closed(settings: Settings) -> None:
    dead_run(settings, sent=9)
    (closed,) = close_orphans(settings)
    run, steps = in_mlflow(settings)
    assert (closed.is_sent, run.info.status, steps) == (True, "KILLED", [1, 2, 3, 4, 5])


def test_mlflow_away_the_journal_holds_it_until_the_next_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    path = dead_run(settings, sent=3)
    mark = json.loads((bookmark := path.with_suffix(".mlflow.json")).read_text())
    bookmark.write_text(json.dumps(mark | {"tracking_uri": f"http://127.0.0.1:{free_port()}"}))
    (closed,) = close_orphans(settings)
    assert not closed.is_sent
    assert last_status(path)["status"] == "KILLED"
    assert in_mlflow(settings)[0].info.status == "RUNNING"
    bookmark.write_text(json.dumps(mark))  # it is back
    assert close_orphans(settings) == [], "it was told before"
    run, steps = in_mlflow(settings)
    assert (run.info.status, steps) == ("KILLED", [1, 2, 3, 4, 5])


class Refusing(BaseHTTPRequestHandler):
    """A tracking server that lets nobody in."""

    def do_GET(self) -> None:
        self.send_error(401)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_a_wrong_password_does_not_keep_a_start_from_going_on(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    path = dead_run(settings, sent=3)
    mark = json.loads((bookmark := path.with_suffix(".mlflow.json")).read_text())
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        bookmark.write_text(json.dumps(mark | {"tracking_uri": f"http://127.0.0.1:{server.server_port}"}))
        (closed,) = close_orphans(settings)
        server.shutdown()
    assert not closed.is_sent
    assert last_status(path)["status"] == "KILLED"
    assert "refuses" in caplog.text


def test_a_later_training_takes_it_up_and_the_night_between_is_not_training_time(settings: Settings) -> None:
    path = dead_run(settings, sent=3)
    close_orphans(settings)
    later = HEARD + 50_000_000
    with Journal(path) as journal:
        journal.write("links/1", "tags", values={"prefect.flow_run_id": "x"}, time=later)
        journal.status("session/1", "RUNNING", step=4, time=later + 100)
        journal.write("train/6", "metrics", step=6, values={"train/loss": 0.1}, time=later + 2100)
    Mirror(path, destination(settings)).send()
    run, steps = in_mlflow(settings)
    assert (run.info.status, steps) == ("RUNNING", [1, 2, 3, 4, 5, 6])
    assert seconds_spent(path) == 6 + 2
    assert seconds_spent(path, until=later + 5100) == 6 + 5
    (closed,) = close_orphans(settings)
    assert closed.step == 6
    ids = [event["id"] for event in read_events(path)]
    assert len(ids) == len(set(ids))


def test_a_run_of_another_version_is_closed_in_its_journal(settings: Settings) -> None:
    path = dead_run(settings, sent=3)
    (path.parent / "spec.toml").write_text("unknown = 1\n")
    (closed,) = close_orphans(settings)
    assert (closed.title, closed.is_sent) == ("abc", False)
    assert last_status(path)["status"] == "KILLED"
    connect(settings.tracking_uri)
