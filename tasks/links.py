"""The way from MLflow to Prefect and from Prefect to what a run found."""

from prefect import runtime
from prefect.artifacts import create_markdown_artifact

from shoes.reports import NightReport


def flow_run_links() -> dict[str, str]:
    """Tags that name the flow run a training belongs to."""
    links = {"prefect.flow_run_id": runtime.flow_run.id, "prefect.flow_run_url": runtime.flow_run.ui_url}
    return {name: value for name, value in links.items() if value}


def show_verdict(report: NightReport) -> None:
    """The verdict as an artifact in Prefect's dashboard."""
    create_markdown_artifact(
        f"**{report.verdict}**\n\n```text\n{report.text}\n```", key="verdict", description=report.verdict
    )
