"""The way from MLflow to Prefect and from Prefect to what a run found.

Every artifact is a card on the flow run's page: environment, forecast, training (see `tasks.live`), samples, verdict
and report are all that a night makes.
"""

from pathlib import Path

from prefect import runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.utilities.urls import url_for

from shoes import verdict
from shoes.environment.text import rows, sentence
from shoes.forecast import text
from shoes.forecast.reports import Forecast
from shoes.publishing.page.message import mlflow_links
from shoes.publishing.page.pictures import within
from shoes.reports import EnvironmentReport, NightReport, PausedTraining
from shoes.settings import load_settings
from shoes.spec import Recipe
from shoes.tracking.pages import RunPages
from shoes.tracking.recording import FLOW_RUN_URL

PICTURE_BYTES = 200 * 1024
"""Most that a picture takes in an artifact, which Prefect keeps in its database."""


def flow_run_links() -> dict[str, str]:
    """Tags that name the flow run a training belongs to."""
    links = {"prefect.flow_run_id": runtime.flow_run.id, FLOW_RUN_URL: flow_run_page()}
    return {name: value for name, value in links.items() if value}


def flow_run_page() -> str | None:
    """The page of the current flow run in Prefect's dashboard; none where nothing shows it."""
    if not runtime.flow_run.id:
        return None
    page = url_for("flow-run", obj_id=runtime.flow_run.id)
    return page if page and page.startswith("http") else None  # a run without a server has "None/…"


def show_environment(found: EnvironmentReport) -> None:
    """The checks as a table in Prefect's dashboard, also when this machine is not ready."""
    create_table_artifact(rows(found), key="environment", description=sentence(found))


def show_forecast(found: Forecast | None) -> None:
    """The forecast as an artifact in Prefect's dashboard; a training that is done needs none."""
    if found is not None:
        said = text.sentence(found)
        create_markdown_artifact(f"**{said}**\n\n```text\n{text.text(found)}\n```", key="forecast", description=said)


def show_pause(recipe: Recipe, training: PausedTraining) -> None:
    """Where a training stopped and how it goes on, in the place of a verdict."""
    said = verdict.paused_sentence(training)
    text = f"**{said}**\n\n```text\n{verdict.paused(recipe, training)}\n```"
    create_markdown_artifact(text, key="verdict", description=said)


def paused(training: PausedTraining) -> State[PausedTraining]:
    """The state of a flow run whose training goes on another time; who calls the flow gets the report.

    For Prefect it is completed, and its name says how far the training is.
    """
    return Completed(name=f"Paused at {training.progress}", message=verdict.paused_sentence(training), data=training)


def show_verdict(report: NightReport) -> None:
    """The verdict as an artifact in Prefect's dashboard, and one that leads to the night's page in MLflow."""
    viewer = load_settings().mlflow_url
    create_markdown_artifact(verdict_markdown(report, viewer), key="verdict", description=report.verdict)
    links = mlflow_links(report, viewer)
    if links:
        said = f"The night as a page: charts, pictures and advice. On this machine: `{report.page}`"
        create_link_artifact(links["Report in MLflow"], "The night's report", key="report", description=said)


def verdict_markdown(report: NightReport, viewer: str | None = None) -> str:
    """The verdict in Markdown: where the page is, the comparison as a small picture, and all of the text.

    Args:
        viewer: where MLflow's pages are; not given: at its server, and nowhere where it is a file on this machine.
    """
    picture = within(report.evaluation.grid, PICTURE_BYTES)
    links = [f"[{name}]({address})" for name, address in mlflow_links(report, viewer).items()]
    blocks = [
        f"**{report.verdict}**",
        " · ".join(links),
        f"Report: `{report.page}`" if report.page else "",
        f"![The same captions and seeds, drawn by base and adapter]({picture})" if picture else "",
        f"```text\n{report.text}\n```",
    ]
    return "\n\n".join(block for block in blocks if block)


def run_link(pages: RunPages | None) -> str:
    """The way to a run in MLflow, in Markdown; nothing while MLflow has none."""
    return f"[Run in MLflow]({pages.run})" if pages else ""


def samples_markdown(picture: Path, pages: RunPages | None) -> str | None:
    """Pictures of a validation, base beside adapter, in Markdown; None while the file is not whole."""
    uri = within(picture, PICTURE_BYTES)
    if uri is None:
        return None
    step = int(picture.stem.rpartition("-")[2])
    blocks = [f"**After {step:,} steps**, the same captions and seeds", run_link(pages), f"![base and adapter]({uri})"]
    return "\n\n".join(block for block in blocks if block)
