"""The way from MLflow to Prefect and from Prefect to what a run found."""

from prefect import runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from shoes import verdict
from shoes.environment.text import rows, sentence
from shoes.forecast import text
from shoes.forecast.reports import Forecast
from shoes.publishing.page.message import mlflow_links
from shoes.publishing.page.pictures import within
from shoes.reports import EnvironmentReport, NightReport, PausedTraining, TrainReport
from shoes.spec import Recipe

PICTURE_BYTES = 200 * 1024
"""Most that a picture takes in an artifact, which Prefect keeps in its database."""


def flow_run_links() -> dict[str, str]:
    """Tags that name the flow run a training belongs to."""
    page = runtime.flow_run.ui_url
    is_a_page = page is not None and page.startswith("http")  # a run without a server has "None/…"
    links = {"prefect.flow_run_id": runtime.flow_run.id, "prefect.flow_run_url": page if is_a_page else None}
    return {name: value for name, value in links.items() if value}


def show_environment(found: EnvironmentReport) -> None:
    """The checks as a table in Prefect's dashboard, also when this machine is not ready."""
    create_table_artifact(rows(found), key="environment", description=sentence(found))


def show_forecast(found: Forecast | None) -> None:
    """The forecast as an artifact in Prefect's dashboard; a training that is done needs none."""
    if found is not None:
        said = text.sentence(found)
        create_markdown_artifact(f"**{said}**\n\n```text\n{text.text(found)}\n```", key="forecast", description=said)


def show_pause(recipe: Recipe, training: TrainReport | PausedTraining) -> None:
    """Where a training stopped and how it goes on, in the place of a verdict; one that is finished needs none."""
    if isinstance(training, PausedTraining):
        said = verdict.paused_sentence(training)
        create_markdown_artifact(
            f"**{said}**\n\n```text\n{verdict.paused(recipe, training)}\n```", key="verdict", description=said
        )


def paused(training: PausedTraining) -> State[PausedTraining]:
    """The state of a flow run whose training goes on another time; who calls the flow gets the report.

    For Prefect it is completed, and its name says how far the training is.
    """
    return Completed(name=f"Paused at {training.progress}", message=verdict.paused_sentence(training), data=training)


def show_verdict(report: NightReport) -> None:
    """The verdict as an artifact in Prefect's dashboard: where the page is, a picture, and all of the text."""
    create_markdown_artifact(verdict_markdown(report), key="verdict", description=report.verdict)


def verdict_markdown(report: NightReport) -> str:
    """The verdict in Markdown, with the comparison as a small picture inside it."""
    picture = within(report.evaluation.grid, PICTURE_BYTES)
    links = [f"[{name}]({address})" for name, address in mlflow_links(report).items()]
    blocks = [
        f"**{report.verdict}**",
        f"Report: `{report.page}`" if report.page else "",
        " · ".join(links),
        f"![The same captions and seeds, drawn by base and adapter]({picture})" if picture else "",
        f"```text\n{report.text}\n```",
    ]
    return "\n\n".join(block for block in blocks if block)
