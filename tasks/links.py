"""The way from MLflow to Prefect and from Prefect to what a run found."""

from prefect import runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from shoes.environment.text import rows, sentence
from shoes.forecast import text
from shoes.forecast.reports import Forecast
from shoes.reports import EnvironmentReport, NightReport


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


def show_verdict(report: NightReport) -> None:
    """The verdict as an artifact in Prefect's dashboard."""
    create_markdown_artifact(
        f"**{report.verdict}**\n\n```text\n{report.text}\n```", key="verdict", description=report.verdict
    )
