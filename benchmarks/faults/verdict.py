"""How a training ended that met a fault, against the same training without."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kills import ADAPTER, Outcome, outcome_of

EVERY = 10
"""Steps between two checkpoints."""


@dataclass
class Verdict:
    """One row of the matrix."""

    row: str
    steps_lost: int = 0
    """Steps that were taken a second time."""
    metrics_lost: int = 0
    metrics_doubled: int = 0
    prefect: str | None = None
    """State of the flow run in the end; None: the row runs without Prefect."""
    mlflow: str = ""
    adapter_equal: bool = False
    faults: list[str] = field(default_factory=list)
    """What is not as it should be."""
    notes: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.faults

    def line(self) -> str:
        return json.dumps({"benchmark": "faults", "ok": self.ok, **asdict(self)})


def judge(verdict: Verdict, folder: Path, expected: Outcome) -> Verdict:
    """Compare the finished training in a data folder with the one that met nothing."""
    found = outcome_of(folder)
    lost, doubled = differences(found.mlflow, expected.mlflow)
    journal_lost, journal_doubled = differences(found.journal, expected.journal)
    verdict.steps_lost = max(verdict.steps_lost, steps_lost(folder))
    verdict.metrics_lost = lost + journal_lost
    verdict.metrics_doubled = doubled + journal_doubled
    verdict.mlflow = ", ".join(found.states)
    verdict.adapter_equal = found.adapter[ADAPTER] == expected.adapter[ADAPTER]
    verdict.faults += _faults(verdict)
    return verdict


def _faults(verdict: Verdict) -> list[str]:
    wrong = {
        f"{verdict.steps_lost} steps lost, {EVERY} are allowed": verdict.steps_lost > EVERY,
        f"{verdict.metrics_lost} metrics lost": verdict.metrics_lost > 0,
        f"{verdict.metrics_doubled} metrics doubled": verdict.metrics_doubled > 0,
        f"MLflow says {verdict.mlflow}": verdict.mlflow != "FINISHED",
        "another adapter": not verdict.adapter_equal,
        f"Prefect says {verdict.prefect}": verdict.prefect not in (None, "COMPLETED"),
    }
    return [what for what, is_wrong in wrong.items() if is_wrong]


def differences(found: list[Any], expected: list[Any]) -> tuple[int, int]:
    """How many points are missing (or have another value), and how many there are too many."""
    missing, more = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    return missing.total(), more.total()


def steps_lost(folder: Path) -> int:
    """The most steps that any start had to take again."""
    worst, last = 0, 0
    for event in events_in(folder):
        if event["id"].startswith("session/"):
            worst = max(worst, last - event["step"])
        elif "train/loss" in event.get("values", {}):
            last = event["step"]
    return worst


def events_in(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of the one journal in a data folder; its run may be elsewhere (`logging_dir`)."""
    journal = journal_in(folder)
    lines = journal.read_bytes().split(b"\n")[:-1] if journal else []
    return [json.loads(line) for line in lines]


def journal_in(folder: Path) -> Path | None:
    return next(folder.glob("runs/*/journal.jsonl"), None)
