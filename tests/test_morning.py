"""The morning under a real Prefect: the night's course, the artifact, and the verdict sent without any secret."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import main
from shoes.errors import TrackingUnavailable
from shoes.reports import StageRun
from shoes.storage import write_text
from tests.publishing import sample_night as sample

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")


def test_the_course_of_a_night_is_read_from_prefect(prefect: None) -> None:
    from prefect import flow, task

    from tasks.retrying import is_transient
    from tasks.timeline import stage_runs

    tries: list[int] = []

    @task(name="prepare-data")
    def calm() -> None:
        pass

    @task(name="promote", retries=2, retry_delay_seconds=0.5, retry_condition_fn=is_transient)
    def shaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise TrackingUnavailable("MLflow is away")

    @task(name="report")
    def ask() -> tuple[StageRun, ...]:
        return stage_runs()

    @flow
    def trial() -> tuple[StageRun, ...]:
        calm()
        shaky()
        return ask()

    first, second = trial()
    assert (first.name, first.state, first.tries, first.troubles) == ("prepare-data", "Completed", 1, ())
    assert (second.name, second.state, second.tries) == ("promote", "Completed", 2)
    assert second.troubles[0].startswith("TrackingUnavailable('MLflow is away'); tried again at ")
    assert first.started <= first.ended <= second.started <= second.ended


def test_outside_of_a_flow_nobody_watched_the_clock() -> None:
    from tasks.timeline import stage_runs

    assert stage_runs() == ()


def test_the_artifact_shows_a_picture_and_leads_to_the_page(own_world: Path) -> None:
    from PIL import Image

    from tasks.links import PICTURE_BYTES, verdict_markdown

    night = sample.night(own_world / "run", page=own_world / "run" / "report" / "index.html")
    Image.effect_noise((1500, 1500), 90).save(night.evaluation.grid)
    text = verdict_markdown(night)
    picture = text.partition("](data:image/jpeg;base64,")[2].partition(")")[0]
    assert 10_000 < len(picture) <= PICTURE_BYTES
    assert night.verdict in text
    assert str(night.page) in text
    assert "(http://tracking.example:5000/get-artifact?path=report%2Findex.html&run_uuid=0123456789abcdef)" in text
    assert "hunter2" not in text
    local = night.model_copy(update={"tracking_uri": "sqlite:////somewhere/mlflow.db"})
    assert "](http" not in verdict_markdown(local)
    known = local.model_copy(update={"experiment_id": "3"})
    run = "(http://127.0.0.1:5001/#/experiments/3/runs/0123456789abcdef"
    text = verdict_markdown(known, "http://127.0.0.1:5001")
    assert f"{run}?workflowType=machine_learning)" in text, (
        "a store without a server of its own is shown by the one of `shoes up`"
    )
    assert f"{run}/artifacts/report/index.html?workflowType=machine_learning)" in text
    night.evaluation.grid.unlink()
    assert "data:image" not in verdict_markdown(night)


class Inbox(ThreadingHTTPServer):
    """Takes messages, or refuses them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[str] = []
        self.status = 200


class Handler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def webhook(prefect: None, inbox: Inbox) -> str:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    CustomWebhookNotificationBlock(
        name="mine",
        url=f"http://127.0.0.1:{inbox.server_port}/hook/{{{{key}}}}",
        json_data={"title": "{{subject}}", "text": "{{body}}"},
        secrets={"key": "hunter2"},
        allow_private_urls=True,
    ).save("mine", overwrite=True)
    return "custom-webhook/mine"


@pytest.fixture
def night(own_world: Path) -> None:
    night = sample.night(own_world / "data" / "runs" / "night")
    night = night.model_copy(update={"page": night.train.run_dir / "report" / "index.html"})
    write_text(night.train.run_dir / "night.json", night.model_dump_json())


def report(*words: str):
    return CliRunner().invoke(main, ["report", "--no-open", *words])


@pytest.mark.parametrize("words", [("--notify", "custom-webhook/mine"), ("--webhook", "mine")])
def test_the_verdict_arrives(night: None, webhook: str, inbox: Inbox, words: tuple[str, str]) -> None:
    result = report(*words)
    assert result.exit_code == 0, result.output + result.stderr
    (body,) = map(json.loads, inbox.bodies)
    assert body["title"] == "Promoted: overnight"
    assert body["text"].startswith("The adapter draws the captions better than the base, CLIP score +4.21")
    assert "http://tracking.example:5000/#/runs/0123456789abcdef" in body["text"]
    assert "report/index.html" in body["text"]
    assert "sent    custom-webhook/mine" in result.output


def test_a_service_that_refuses_is_told_without_its_secret(
    night: None, webhook: str, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    inbox.status = 500
    with caplog.at_level(logging.DEBUG):
        result = report("--notify", webhook)
    assert result.exit_code == 1
    assert "custom-webhook/mine did not take the message: it answered with status 500" in result.stderr
    assert len(inbox.bodies) == 1
    assert "hunter2" not in result.output + result.stderr + caplog.text


def test_an_unknown_block_is_told_with_those_that_there_are(night: None, webhook: str, inbox: Inbox) -> None:
    result = report("--notify", webhook, "--notify", "slack-webhook/nobody", "--email", "me", "--notify", "mine")
    assert result.exit_code == 2, result.stderr + str(result.exception)
    for word in ("slack-webhook/nobody", "sendgrid-email/me", "TYPE/NAME", "there is custom-webhook/mine", "dashboard"):
        assert word in result.stderr
    assert inbox.bodies == [], "nothing is sent while something is wrong"


def test_a_block_of_another_kind_sends_nothing(night: None, prefect: None) -> None:
    from prefect.blocks.system import Secret

    Secret(value="hunter2").save("word", overwrite=True)
    result = report("--notify", "secret/word")
    assert result.exit_code == 2, result.stderr + str(result.exception)
    assert "is a block of type secret, which sends no notifications" in result.stderr
    assert "hunter2" not in result.stderr
