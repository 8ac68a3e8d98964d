"""The verdict as a message, and where its page can be opened."""

from shoes.progress import duration
from shoes.publishing.page.state import state
from shoes.reports import NightReport
from shoes.tracking.pages import run_pages


def mlflow_links(night: NightReport, viewer: str | None = None) -> dict[str, str]:
    """Addresses of the page and of the run in MLflow; nothing where nobody shows it.

    Args:
        viewer: where MLflow's pages are; not given: at its server, and nowhere where it is a file on this machine.
    """
    address = viewer or night.tracking_uri
    if night.run_id is None or not address.startswith(("http://", "https://")):
        return {}
    pages = run_pages(address, night.run_id, night.experiment_id)
    return {"Report in MLflow": pages.report, "Run in MLflow": pages.run}


def subject(night: NightReport) -> str:
    """State and recipe."""
    return f"{state(night).words}: {night.recipe}"


def body(night: NightReport, viewer: str | None = None) -> str:
    """The verdict in plain text, what the night took, and where to look; `viewer` as in `mlflow_links`."""
    train = night.train
    lines = [
        night.verdict,
        "",
        f"{train.step:,} of {train.max_train_steps:,} steps in {duration(train.seconds)} on {train.device}, "
        f"finished {night.finished.astimezone():%a %d %b, %H:%M}.",
        *(f"{name}: {address}" for name, address in mlflow_links(night, viewer).items()),
    ]
    if night.page:
        lines.append(f"Report: {night.page.as_uri()}")
    return "\n".join(lines)
