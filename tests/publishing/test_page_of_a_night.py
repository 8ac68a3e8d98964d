"""The last stage writes the page once, keeps it in MLflow, and loses no verdict over it."""

import errno
from collections.abc import Callable

import pytest

from shoes import environment, stages
from shoes.night import report
from shoes.publishing import page
from shoes.reports import EnvironmentReport, NightReport
from shoes.settings import load_settings
from shoes.tracking.journal import read_events
from shoes.tracking.pages import RunPages
from tests.conftest import Night


@pytest.fixture(scope="module")
def environment_now(night: Night) -> EnvironmentReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOES_DATA_DIR", str(night.data_dir))
        return environment.verify(night.recipe, load_settings(), "in a test")


@pytest.fixture
def tell(in_night: Night, environment_now: EnvironmentReport) -> Callable[[], NightReport]:
    """Runs the last stage."""
    parts = [getattr(in_night, name) for name in ("models", "data", "training", "evaluation", "promotion")]
    return lambda: report(in_night.recipe, environment_now, *parts)


def test_the_page_is_written_once_and_kept_in_mlflow(in_night: Night, tell: Callable[[], NightReport]) -> None:
    from shoes.tracking.mirror import connect

    first = tell()
    journal = in_night.training.run_dir / "journal.jsonl"
    content, known = first.page.read_bytes(), [event["id"] for event in read_events(journal)]
    again = tell()
    assert again == first, "told again it is the same night"
    assert again.page.read_bytes() == content
    assert [event["id"] for event in read_events(journal)] == known
    assert f"report    {first.page}" in first.text
    curves, _, when = first.text[first.text.index("curves") :].partition("\n")
    address = f"http://127.0.0.1:5001/#/experiments/{first.experiment_id}/runs/{first.run_id}"
    assert curves.startswith(f"curves    {address}?")
    assert when.split("\n")[0].strip() == "while `shoes up` runs"
    assert [run.name for run in first.timeline][-4:] == ["choose-checkpoint", "prove-export", "evaluate", "promote"]
    client = connect(load_settings().tracking_uri)
    assert "report/index.html" in [file.path for file in client.list_artifacts(first.run_id, "report")]
    kept = NightReport.model_validate_json((in_night.training.run_dir / "night.json").read_bytes())
    assert kept == first


def test_a_full_disk_costs_the_page_and_not_the_verdict(
    in_night: Night,
    tell: Callable[[], NightReport],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(told: NightReport) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(page, "write", full)
    told = tell()
    assert told.verdict
    assert "`shoes report` tries again" in caplog.text
    assert (in_night.training.run_dir / "night.json").is_file()


def test_the_address_of_a_server_is_kept(tell: Callable[[], NightReport], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(stages, "pages", lambda *given: RunPages("http://127.0.0.1:9", "0123"))
    monkeypatch.setattr(stages, "record_page", lambda *given: None)
    told = tell()
    assert told.tracking_uri == "http://127.0.0.1:9"
    assert "curves    http://127.0.0.1:9/#/runs/0123" in told.text
    assert "shoes up" not in told.text
