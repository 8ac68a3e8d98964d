"""All that a page is made of: the night's report, and what lies beside it in the run's folder."""

import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shoes.reports import NightReport
from shoes.spec import Recipe
from shoes.storage import size_of
from shoes.tracking.journal import Event, read_events


@dataclass(frozen=True)
class Evidence:
    """What is known of a night. All but the report may be missing."""

    night: NightReport
    spec: str
    """The recipe with all its values, as TOML; empty: it is gone."""
    recipe: Recipe | None
    machine: dict[str, Any]
    """environment.json."""
    events: tuple[Event, ...]
    """Of the run's journal."""
    folder_bytes: int
    free_bytes: int

    @property
    def spec_path(self) -> Path:
        """The recipe with all its values: `--recipe` takes it."""
        return self.night.train.run_dir / "spec.toml"

    def series(self, metric: str) -> dict[int, float]:
        """A metric by step; where steps were run again, as they were in the end."""
        found: dict[int, float] = {}
        for event in self.events:
            if event["kind"] == "metrics" and isinstance(value := event["values"].get(metric), int | float):
                found[event["step"]] = float(value)
        return dict(sorted(found.items()))


def gather(night: NightReport) -> Evidence:
    """Read what lies in the run's folder."""
    folder = night.train.run_dir
    spec = _read(folder / "spec.toml")
    return Evidence(
        night=night,
        spec=spec,
        recipe=_recipe(spec),
        machine=_json(_read(folder / "environment.json")),
        events=tuple(read_events(folder / "journal.jsonl")),
        folder_bytes=size_of(folder),
        free_bytes=shutil.disk_usage(folder).free if folder.is_dir() else 0,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _recipe(spec: str) -> Recipe | None:
    """The recipe of an earlier version may have other fields; then only its text is shown."""
    try:
        return Recipe.model_validate(tomllib.loads(spec)) if spec else None
    except (ValidationError, tomllib.TOMLDecodeError):
        return None


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
