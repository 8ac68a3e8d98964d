"""Nights that are over, and trainings that are not, as they lie in the folders of runs."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shoes.errors import TrainingError
from shoes.litter import visible
from shoes.publishing.page import numbers
from shoes.reports import NightReport
from shoes.storage import placed_anew
from shoes.tracking.journal import Event, read_events

FILE = "night.json"


@dataclass(frozen=True)
class Unfinished:
    """A run without a verdict, as far as its journal knows."""

    folder: Path
    recipe: str
    state: str
    """In MLflow's words."""
    step: int
    detail: str
    """Why it paused or failed; empty: not known."""
    at: datetime

    @property
    def sentence(self) -> str:
        """What is known, in a sentence, and how it goes on."""
        states = {"SCHEDULED": "is paused", "KILLED": "was stopped", "FAILED": "failed", "FINISHED": "is trained"}
        told = states.get(self.state, "is running, or was cut off")
        detail = f": {self.detail.removeprefix(f'at step {self.step}: ')}" if self.detail else ""
        return (
            f"The training of {self.recipe} {told} at step {self.step:,}{detail} ({numbers.when(self.at)}). "
            f"To go on: shoes run --recipe {self.folder / 'spec.toml'}"
        )


def kept(folder: Path) -> NightReport | None:
    """The night of a run's folder, with its paths where that is now; None where there is none that can be read."""
    try:
        content = json.loads((folder / FILE).read_bytes())
        return NightReport.model_validate_json(json.dumps(_placed(content, folder)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _placed(content: Any, folder: Path) -> Any:
    """The data folder may have been carried to another place since: what is below it is looked for there."""
    former = Path(content["train"]["run_dir"])
    if former == folder or former.name != folder.name:
        return content
    if former.parent.name == folder.parent.name:
        return placed_anew(content, former.parents[1], folder.parents[1])
    return placed_anew(content, former, folder)


def newest(roots: Sequence[Path], recipe: str | None = None) -> NightReport:
    """The night that finished last, of one recipe or of all.

    Raises:
        TrainingError: no night has finished; says what is known of trainings that began.
    """
    nights = [night for folder in _folders(roots) if (night := kept(folder)) and recipe in (None, night.recipe)]
    if nights:
        return max(nights, key=lambda night: night.finished)
    which = f"night of {recipe}" if recipe else "night"
    places = " or ".join(map(str, roots))
    raise TrainingError(f"No {which} has finished yet in {places}. {_instead(roots, recipe)}")


def _instead(roots: Sequence[Path], recipe: str | None) -> str:
    """What is known where there is no night to tell of, and what to do."""
    if begun := unfinished(roots, recipe):
        return begun[0].sentence
    if unread := [folder for folder in _folders(roots) if (folder / FILE).exists() and kept(folder) is None]:
        return (
            f"{unread[0] / FILE} was written by another version, or is damaged. To tell of that night again: "
            f"shoes run --recipe {unread[0] / 'spec.toml'}"
        )
    return f"To run one: shoes run --recipe {recipe or 'demo'}"


def unfinished(roots: Sequence[Path], recipe: str | None = None) -> list[Unfinished]:
    """Trainings that began and have no verdict, the latest first."""
    found = (_unfinished(folder) for folder in _folders(roots) if not (folder / FILE).exists())
    known = [run for run in found if run is not None and recipe in (None, run.recipe)]
    return sorted(known, key=lambda run: run.at, reverse=True)


def _folders(roots: Iterable[Path]) -> list[Path]:
    return sorted(
        folder for root in roots if root.is_dir() for folder in visible(root.iterdir(), root) if folder.is_dir()
    )


def _unfinished(folder: Path) -> Unfinished | None:
    events = list(read_events(folder / "journal.jsonl"))
    states = [event for event in events if event["kind"] == "status"]
    if not states:
        return None
    last = states[-1]
    return Unfinished(
        folder=folder,
        recipe=_tag(events, "recipe") or "?",
        state=last["status"],
        step=max(event["step"] for event in events if event["kind"] in {"status", "metrics"}),
        detail={"SCHEDULED": _tag(events, "paused"), "FAILED": _tag(events, "failure")}.get(last["status"], ""),
        at=datetime.fromtimestamp(last["time"] / 1000, UTC),
    )


def _tag(events: Sequence[Event], name: str) -> str:
    """A tag as it was set last."""
    values = [event["values"][name] for event in events if event["kind"] == "tags" and name in event["values"]]
    return str(values[-1]) if values else ""
