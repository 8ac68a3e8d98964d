"""The last stage writes the page once, keeps it in MLflow, and loses no verdict over it."""

import errno

import pytest

from shoes import environment, night, stages
from shoes.publishing import page
from shoes.reports import NightReport
from shoes.settings import load_settings
from shoes.tracking.journal import read_events
from shoes.tracking.pages import RunPages


def tell(given) -> NightReport:
    found = environment.verify(given.recipe, load_settings(), "in a test")
    return night.report(
        given.recipe, found, given.models, given.data, given.training, given.evaluation, given.promotion
    )


def test_the_page_is_written_once_and_kept_in_mlflow(in_night) -> None:
    from shoes.tracking.mirror import connect

    first = tell(in_night)
    journal = in_night.training.run_dir / "journal.jsonl"
    content, known = first.page.read_bytes(), [event["id"] for event in read_events(journal)]
    again = tell(in_night)
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
    in_night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(report: NightReport) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(page, "write", full)
    told = tell(in_night)
    assert told.verdict
    assert "`shoes report` tries again" in caplog.text
    assert (in_night.training.run_dir / "night.json").is_file()


def test_the_address_of_a_server_is_kept(in_night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(stages, "pages", lambda *given: RunPages("http://127.0.0.1:9", "0123"))
    monkeypatch.setattr(stages, "record_page", lambda *given: None)
    told = tell(in_night)
    assert told.tracking_uri == "http://127.0.0.1:9"
    assert "curves    http://127.0.0.1:9/#/runs/0123" in told.text
    assert "shoes up" not in told.text
