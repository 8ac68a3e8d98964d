"""Where people see a run: addresses of MLflow's pages."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoes.environment.addresses import without_secrets


@dataclass(frozen=True)
class RunPages:
    """The pages of one run."""

    viewer: str
    """Address of MLflow's pages, without user and password."""
    run_id: str
    experiment_id: str | None = None

    @property
    def run(self) -> str:
        """Curves, parameters and pictures."""
        if self.experiment_id is None:
            return f"{self.viewer}/#/runs/{self.run_id}"
        return self._page()

    @property
    def report(self) -> str:
        """The night as a page, among the run's artifacts."""
        if self.experiment_id is None:
            return f"{self.viewer}/get-artifact?path=report%2Findex.html&run_uuid={self.run_id}"
        return self._page("/artifacts/report/index.html")

    def _page(self, tab: str = "") -> str:
        # by itself MLflow opens runs among its pages for language models
        return f"{self.viewer}/#/experiments/{self.experiment_id}/runs/{self.run_id}{tab}?workflowType=machine_learning"


def run_pages(viewer: str, run_id: str, experiment_id: str | None = None) -> RunPages:
    """The pages of a run, at a viewer's address from which all secrets are taken."""
    return RunPages(without_secrets(viewer).rstrip("/"), run_id, experiment_id)


def known_pages(journal: Path, tracking_uri: str, viewer: str) -> RunPages | None:
    """The pages of a journal's run, once some of it was sent to this store; MLflow is not asked."""
    mark = read_bookmark(journal, tracking_uri)
    return run_pages(viewer, mark["run_id"], mark.get("experiment_id")) if "run_id" in mark else None


def bookmark(journal: Path) -> Path:
    """File that says how far a journal was sent, and where to."""
    return journal.with_suffix(".mlflow.json")


def read_bookmark(journal: Path, tracking_uri: str) -> dict[str, Any]:
    """How far a journal was sent to a store, and to which run; nothing where it was not, or nobody knows."""
    try:
        mark = json.loads(bookmark(journal).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) and mark.get("tracking_uri") == tracking_uri else {}
