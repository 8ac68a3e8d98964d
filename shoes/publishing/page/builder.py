"""Puts the page together and writes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from shoes.device import precision_name
from shoes.device.parity import PARTS, measured_parts
from shoes.environment.addresses import without_secrets
from shoes.litter import visible
from shoes.progress import duration
from shoes.publishing.page import course, gallery, learning, numbers, results
from shoes.publishing.page.advice import next_steps
from shoes.publishing.page.charts import Table
from shoes.publishing.page.evidence import Evidence, gather
from shoes.publishing.page.numbers import sentence
from shoes.publishing.page.state import state
from shoes.reports import NightReport
from shoes.storage import fingerprint, write_text

PAGE = Path("report") / "index.html"
"""Below the run's folder."""
_HERE = Path(__file__).parent
_JUDGES = {"clip": "CLIP", "second_clip": "Second CLIP", "dino": "DINOv2"}


def write(night: NightReport) -> Path:
    """Write the page of a night into its run's folder; one that is there and shows the same is left as it is.

    Raises:
        OSError: it can't be written; a former page stays.
    """
    page = night.train.run_dir / PAGE
    if not current(page, night):
        write_text(page, render(gather(night)))
    return page


def current(page: Path, night: NightReport) -> bool:
    """The page is there, and shows this night in this version's form."""
    try:
        with page.open(encoding="utf-8") as file:
            return mark(night) in file.read(2000)
    except (OSError, UnicodeDecodeError):
        return False


def mark(night: NightReport) -> str:
    """Name of a page by all that decides it: the night, and the code that shows it."""
    files = sorted(file for file in visible(_HERE.iterdir(), _HERE) if file.suffix in {".py", ".j2", ".css", ".js"})
    shown = night.model_dump(mode="json", exclude={"page"})
    return fingerprint(shown, [file.read_text(encoding="utf-8") for file in files])


def render(evidence: Evidence) -> str:
    """The page's HTML. Equal evidence gives equal text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = sentence
    return environment.get_template("page.html.j2").render(
        style=_file("page.css"), script=_file("page.js"), **_content(evidence)
    )


def _file(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def _content(evidence: Evidence) -> Mapping[str, Any]:
    night = evidence.night
    rows = gallery.rows(night.evaluation)
    checkpoints, reason = learning.checkpoints(night.train)
    alarm = night.evaluation.memorisation
    return {
        "night": night,
        "mark": mark(night),
        "state": state(night),
        "when": numbers.when,
        "clock": numbers.clock,
        "day": numbers.day,
        "signed": numbers.signed,
        "plain": numbers.plain,
        "percent": numbers.percent,
        "facts": _facts(night),
        "gallery": rows,
        "grid": None if rows else gallery.grid(night.evaluation),
        "differences": results.differences(night.evaluation),
        "arms": results.arms(night.evaluation),
        "spreads": results.spreads(night.evaluation),
        "interval_in_words": results.interval_in_words(night.evaluation),
        "breakdowns": results.breakdowns(night.evaluation.breakdowns),
        "curves": learning.charts(evidence),
        "checkpoints": checkpoints,
        "reason": reason,
        "alarm": alarm,
        "pairs": gallery.pairs(alarm.pairs) if alarm else (),
        "entries": course.entries(evidence),
        "gantt": course.gantt(evidence),
        "stage_times": course.stage_times(night),
        "forecast": course.forecast(night.forecast),
        "machine": course.machine(evidence),
        "environment": course.environment(evidence.machine),
        "parity": _parity(night),
        "judges": Table(
            ("role", "model", "note"),
            tuple((_JUDGES[judge.role], judge.name, judge.note or "as asked for") for judge in night.evaluation.judges),
        ),
        "spec": evidence.spec,
        "spec_path": evidence.spec_path,
        "files": _files(night),
        "steps": next_steps(night, evidence.recipe, evidence.spec_path),
    }


def _facts(night: NightReport) -> list[tuple[str, str]]:
    """What the head of the page says beside the verdict."""
    train = night.train
    return [
        ("Recipe", night.recipe),
        ("Finished", numbers.when(night.finished)),
        ("Trained", f"{train.step:,} of {train.max_train_steps:,} steps in {duration(train.seconds)}"),
        ("Exported", f"step {train.chosen_step:,}"),
        ("Device", f"{train.device}, {precision_name(train.precision)}"),
        ("Work of all stages", duration(sum(stage.seconds for stage in night.stages))),
    ]


def _parity(night: NightReport) -> Table:
    """One column for each way that was tried, one row for each part that was measured in any of them."""
    trials = night.train.parity
    if not trials:
        return Table((), ())
    measured = [measured_parts(trial) for trial in trials]
    names = [name for name in PARTS if any(name in parts for parts in measured)]
    rows = [
        ("outcome", *("passed" if trial.passed else "failed" for trial in trials)),
        ("in words", *(trial.verdict for trial in trials)),
        *((PARTS[name].words.format(size="several"), *(_off(parts.get(name)) for parts in measured)) for name in names),
    ]
    ways = [f"{trial.device}, {precision_name(trial.precision)}" for trial in trials]
    return Table(("off by", *ways), tuple(rows))


def _off(error: float | None) -> str:
    return numbers.NOTHING if error is None else f"{100 * error:.2g} %"


def _files(night: NightReport) -> Table:
    """Where everything lies."""
    train, promotion = night.train, night.promotion
    rows = [
        ("Adapter", str(train.adapter_dir)),
        ("Run's folder", str(train.run_dir)),
        ("Pictures", str(night.evaluation.grid)),
        ("Every picture's scores", str(night.evaluation.scores)),
        ("MLflow", without_secrets(night.tracking_uri)),
        ("MLflow run", night.run_id or "not reached"),
        ("Registered model", f"{promotion.registered_model}, version {promotion.version or numbers.NOTHING}"),
        ("Champion", f"version {promotion.champion_version}" if promotion.champion_version else "none"),
    ]
    return Table(("", ""), tuple(rows))
