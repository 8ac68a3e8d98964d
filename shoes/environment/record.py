"""The last report, kept beside the data: what a run's environment.json is made of."""

import json
from typing import Any

from shoes.reports import EnvironmentReport
from shoes.settings import Settings
from shoes.storage import pretty_json, write_text

FILE = "environment.json"


def keep(report: EnvironmentReport, settings: Settings) -> None:
    """Write the report to the data folder, atomically."""
    write_text(settings.data / FILE, pretty_json(report.model_dump(mode="json")))


def kept(settings: Settings) -> dict[str, Any]:
    """The report that was kept last, as JSON; empty when this machine was never checked or the file is no JSON."""
    try:
        found = json.loads((settings.data / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
