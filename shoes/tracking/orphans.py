"""Runs that MLflow believes to be running, whose process has died: they are closed, and may be taken up again.

A process that is killed leaves its journal with the state RUNNING, and frees the run's lock. The state that it did not
write is written here, through the journal, so that MLflow gets it once and in its place; a later training of the same
run goes on as after any other stop. What the dead process had not sent any more is sent as well.
"""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from shoes import recipes
from shoes.errors import ShoesError, TrackingRefused, TrackingUnavailable
from shoes.settings import Settings
from shoes.spec import Recipe
from shoes.tracking.journal import Journal, last_status, read_events
from shoes.tracking.mirror import Destination, Mirror
from shoes.training.run import run_lock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Closed:
    """A run that was found without its process."""

    folder: Path
    title: str
    """Of its recipe: overnight sd15 r8 3000."""
    step: int
    """The last one in the journal."""
    heard: datetime
    """When it was last heard of, in UTC."""
    is_sent: bool
    """MLflow knows; else the journal keeps it for the next start."""

    def __str__(self) -> str:
        return f"{self.title}: its process died at step {self.step:,}, last heard of {self.heard:%Y-%m-%d %H:%M} UTC"


def close_orphans(settings: Settings) -> list[Closed]:
    """Give every run whose process died the state KILLED, and send MLflow what journals hold and it lacks.

    Runs that somebody works on are left alone. While MLflow is away the journals keep it.
    """
    return [
        closed
        for journal in sorted(settings.runs.glob("[!.]*/journal.jsonl"))
        if (closed := _settle(journal, settings))
    ]


def _settle(journal: Path, settings: Settings) -> Closed | None:
    """Close one run, or only send the rest of its journal."""
    if not _is_orphan(journal) and not _has_news(journal):
        return None
    try:
        with run_lock(journal.parent, timeout=0):
            found = _close(journal) if _is_orphan(journal) else None  # its process may have come to its end meanwhile
            is_sent = _send(journal, settings)
    except Timeout:
        return None
    if found is None:
        return None
    closed = Closed(journal.parent, _title(journal), *found, is_sent)
    log.warning("%s. The run is closed; the next training of it goes on from its last checkpoint.", closed)
    return closed


def _is_orphan(journal: Path) -> bool:
    """Of a run whose lock is free: its process did not say how it ended."""
    last = last_status(journal)
    return last is not None and last["status"] == "RUNNING"


def _close(journal: Path) -> tuple[int, datetime]:
    """Write the state; the last step, and when the run was last heard of, which is when it ended."""
    events = list(read_events(journal))
    heard = max(event["time"] for event in events)
    step = max((e["step"] for e in events if "train/loss" in e.get("values", {})), default=0)
    tries = sum(event["id"].startswith("session/") for event in events)
    when = datetime.fromtimestamp(heard / 1000, UTC)
    reason = f"its process died at step {step:,}; last heard of at {when.isoformat(timespec='seconds')}"
    with Journal(journal) as writer:
        writer.write(f"orphan/{tries}", "tags", values={"killed": reason}, time=heard)
        writer.status(f"orphan/{tries}/status", "KILLED", step=step, time=heard)
    return step, when


def _has_news(journal: Path) -> bool:
    """MLflow was not sent all of it."""
    return bool(_bookmark(journal).get("offset") != journal.stat().st_size)


def _bookmark(journal: Path) -> dict[str, object]:
    try:
        found = json.loads(journal.with_suffix(".mlflow.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _send(journal: Path, settings: Settings) -> bool:
    """Send the rest of a journal to the store that has its beginning."""
    recipe = _recipe(journal)
    if recipe is None:
        return False
    destination = Destination(
        tracking_uri=str(_bookmark(journal).get("tracking_uri", settings.tracking_uri)),
        artifact_root=settings.mlruns / "artifacts",
        experiment=recipe.publish.experiment,
        run_name=recipe.title,
        fingerprint=journal.parent.name,
    )
    try:
        Mirror(journal, destination).send()
    except (TrackingUnavailable, TrackingRefused) as error:
        log.warning("%s. The journal keeps everything; it is sent when MLflow takes it.", error)
        return False
    return True


def _title(journal: Path) -> str:
    recipe = _recipe(journal)
    return recipe.title if recipe is not None else journal.parent.name


def _recipe(journal: Path) -> Recipe | None:
    """The recipe that the run was last started with; none where this version can't read it."""
    try:
        return recipes.load(str(journal.parent / "spec.toml"), {})
    except ShoesError as error:
        log.warning("%s: %s", journal.parent, error)
        return None
