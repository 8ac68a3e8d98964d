"""The verdict as a message, and where its page can be opened."""

from shoes.environment.addresses import without_secrets
from shoes.progress import duration
from shoes.publishing.page.state import state
from shoes.reports import NightReport


def mlflow_links(night: NightReport) -> dict[str, str]:
    """Addresses of the page and of the run at an MLflow server; nothing where MLflow is a file on this machine."""
    address = without_secrets(night.tracking_uri).rstrip("/")
    if night.run_id is None or not address.startswith(("http://", "https://")):
        return {}
    return {
        "Report in MLflow": f"{address}/get-artifact?path=report%2Findex.html&run_uuid={night.run_id}",
        "Run in MLflow": f"{address}/#/runs/{night.run_id}",
    }


def subject(night: NightReport) -> str:
    """State and recipe."""
    return f"{state(night).words}: {night.recipe}"


def body(night: NightReport) -> str:
    """The verdict in plain text, what the night took, and where to look."""
    train = night.train
    lines = [
        night.verdict,
        "",
        f"{train.step:,} of {train.max_train_steps:,} steps in {duration(train.seconds)} on {train.device}, "
        f"finished {night.finished.astimezone():%a %d %b, %H:%M}.",
        *(f"{name}: {address}" for name, address in mlflow_links(night).items()),
    ]
    if night.page:
        lines.append(f"Report: {night.page.as_uri()}")
    return "\n".join(lines)
