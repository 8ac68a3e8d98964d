"""The course of the night: stages, faults and pauses in the order of time, the forecast, memory and disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from shoes.device.parity import in_words
from shoes.progress import duration, size
from shoes.publishing.page import numbers
from shoes.publishing.page.charts import Chart, Stretch, Table, times
from shoes.publishing.page.evidence import Evidence
from shoes.reports import NightReport, Outcome, StageRun
from shoes.tracking.journal import Event

Kind = Literal["stage", "start", "pause", "fault"]
STAGES = {
    "verify-environment": "Environment",
    "fetch-model": "Models",
    "prepare-data": "Photos",
    "forecast": "Forecast",
    "train-lora": "Training",
    "choose-checkpoint": "Choice of the checkpoint",
    "prove-export": "Proof of the export",
    "evaluate": "Evaluation",
    "promote": "Promotion",
    "report": "Report",
}


@dataclass(frozen=True)
class Entry:
    """Something that happened."""

    kind: Kind
    title: str
    detail: str
    at: datetime | None = None


def entries(evidence: Evidence) -> tuple[Entry, ...]:
    """All that happened; what has no time stands last."""
    found = [*_stages(evidence.night.timeline), *_of_journal(evidence), *_parity(evidence.night)]
    found += _doubts(evidence.night)
    return tuple(sorted(found, key=lambda entry: entry.at or datetime.max.replace(tzinfo=UTC)))


def _stages(timeline: Sequence[StageRun]) -> Iterator[Entry]:
    for stage in timeline:
        if stage.started is None:  # how long it took stands in a table of its own
            continue
        details = [f"{duration(stage.seconds)}, {stage.state.lower()}"]
        if stage.tries > 1:
            details.append(f"after {stage.tries} tries")
        yield Entry("stage", STAGES.get(stage.name, stage.name), ", ".join(details), stage.started)
        for trouble in stage.troubles:
            yield Entry("fault", f"{STAGES.get(stage.name, stage.name)} had to be tried again", trouble, stage.started)


def _of_journal(evidence: Evidence) -> Iterator[Entry]:
    """What the training wrote down: starts, pauses, failures, and how it saved itself."""
    events = [event for event in evidence.events if _is_told(event)]
    tries = [event for event in events if event["id"].startswith("session/")]
    for event in events:
        name, at = event["id"], _time(event)
        if name.startswith("session/"):
            again = "Training taken up again" if event is not tries[0] else "Training started"
            yield Entry("start", again, f"at step {event['step']:,}", at)
        elif name.startswith("paused/"):
            yield Entry("pause", "Training paused", f"{event['values'].get('paused', '')}; {_next(tries, event)}", at)
        elif name.startswith("stopped/"):
            yield Entry(
                "pause", "Training was stopped", f"at step {event['step']:,}, state saved; {_next(tries, event)}", at
            )
        elif name.startswith("failed/"):
            yield Entry("fault", "A try failed", f"{event['values'].get('failure', '')} → {_next(tries, event)}", at)
    yield from _interventions(evidence)


def _is_told(event: Event) -> bool:
    name, kind = event["id"], event["kind"]
    return (name.startswith(("session/", "stopped/")) and kind == "status") or (
        name.startswith(("paused/", "failed/")) and kind == "tags"
    )


def _time(event: Event) -> datetime:
    return datetime.fromtimestamp(event["time"] / 1000, UTC)


def _next(tries: Sequence[Event], event: Event) -> str:
    """What came after a try's end."""
    later = next((start for start in tries if start["time"] >= event["time"]), None)
    if later is None:
        return "not taken up again"
    return f"taken up again at step {later['step']:,}, {numbers.when(_time(later))}"


def _interventions(evidence: Evidence) -> Iterator[Entry]:
    told = [_time(event) for event in evidence.events if event["id"].startswith("intervention/")]
    done = evidence.night.train.interventions
    moments: list[datetime | None] = [*told[: len(done)], *[None] * (len(done) - len(told))]
    for step, moment in zip(done, moments, strict=True):
        yield Entry("fault", f"Trouble at step {step.step:,}: the training saved itself", step.detail, moment)


def _parity(night: NightReport) -> Iterator[Entry]:
    """The device computed wrong in the way that was meant, and another one was taken."""
    if len(night.train.parity) > 1:
        start = next((stage.started for stage in night.timeline if stage.name == "train-lora"), None)
        yield Entry(
            "fault", "The device computed wrong, and another way was taken", in_words(night.train.parity), start
        )


def _doubts(night: NightReport) -> list[Entry]:
    """Exported forms whose pictures rounding does not explain."""
    at = next((stage.started for stage in night.timeline if stage.name == "prove-export"), None)
    said = night.train.proof.doubts if night.train.proof else ()
    return [Entry("fault", "A form of the adapter draws another picture", doubt, at) for doubt in said]


def gantt(evidence: Evidence) -> Chart | None:
    """When each stage ran; None where nobody watched the clock."""
    runs = [run for run in evidence.night.timeline if run.started and run.ended]
    if not runs:
        return None
    stretches = [
        Stretch(STAGES.get(run.name, run.name), run.started.astimezone(), run.ended.astimezone(), not run.troubles)
        for run in runs
        if run.started and run.ended
    ]
    rows = tuple(
        (s.label, numbers.clock(s.start), numbers.clock(s.end), duration(run.seconds), run.state, str(run.tries))
        for s, run in zip(stretches, runs, strict=True)
    )
    table = Table(("stage", "from", "to", "time", "state", "tries"), rows)
    day = numbers.when(stretches[0].start)
    return times("stages", "When each stage ran", f"From {day}, on this machine's clock.", stretches, table)


def stage_times(night: NightReport) -> Table:
    """How long each stage's own work took, whenever it was done."""
    rows = [(STAGES.get(stage.name, stage.name), duration(stage.seconds)) for stage in night.stages]
    total = duration(sum(stage.seconds for stage in night.stages))
    return Table(("stage", "own work"), (*rows, ("Together", total)))


def forecast(found: Outcome | None) -> Table | None:
    """The forecast beside the fact."""
    if found is None:
        return None
    return Table(
        ("", "forecast", "fact", "error"),
        (
            (
                "Training time",
                duration(found.predicted_seconds),
                duration(found.actual_seconds),
                f"{numbers.signed(100 * found.time_error, 0)} %",
            ),
            (
                "Peak memory",
                size(found.predicted_peak_bytes),
                size(found.actual_peak_bytes),
                f"{numbers.signed(100 * found.memory_error, 0)} %",
            ),
        ),
    )


def machine(evidence: Evidence) -> Table:
    """Memory and disk."""
    train = evidence.night.train
    facts = [
        ("Device", f"{train.device}, {train.precision if train.precision != 'no' else 'fp32'}"),
        ("Speed", f"{train.images_per_second:.3g} images a second"),
        ("Peak memory of the training", size(train.peak_memory_bytes)),
    ]
    for metric, title, pick in (
        ("system/available_memory_bytes", "Least memory left on the machine", min),
        ("system/process_memory_bytes", "Most memory of the process", max),
        ("system/device_memory_bytes", "Most memory of the device", max),
        ("system/swap_used_bytes", "Most swap in use", max),
    ):
        if values := evidence.series(metric).values():
            facts.append((title, size(pick(values))))
    facts += [("The run's folder", size(evidence.folder_bytes)), ("Free disk", size(evidence.free_bytes))]
    return Table(("", ""), tuple(facts))


def environment(machine_facts: dict[str, Any]) -> Table | None:
    """Versions, and the checks that were made before the training."""
    rows = [(name, str(value)) for name, value in machine_facts.items() if name != "report"]
    report = machine_facts.get("report")
    checks = report.get("checks", []) if isinstance(report, dict) else []
    rows += [
        (str(check.get("name", "")), f"{check.get('status', '')}: {check.get('detail', '')}")
        for check in checks
        if isinstance(check, dict)
    ]
    return Table(("", ""), tuple(rows)) if rows else None
