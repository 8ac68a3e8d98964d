"""What is printed about a model: its files, its first pictures, and what the options save."""

from collections.abc import Sequence

from shoes.device import precision_name
from shoes.model.comparison import PLAIN, OptionComparison, OptionTrial
from shoes.model.trial import GRID, TrialReport
from shoes.progress import duration, size
from shoes.reports import ModelCheck, ModelReport


def fetched(role: str, report: ModelReport) -> str:
    """One model that is here and whole."""
    at = f" at {report.commit[:12]}" if report.commit else ""
    lines = [
        f"{role}: {report.name}{at}",
        f"  {report.num_files} files, {size(report.num_bytes)}, in {report.path}",
        f"  verified against {report.verified_against}",
        *(f"  {note}" for note in report.notes),
    ]
    return "\n".join(lines)


def checked(role: str, found: ModelCheck) -> str:
    """Every file of a model, its state, and what to do about what is wrong."""
    wide = max((len(file.path) for file in found.files), default=0)
    rows = [
        f"  [{'OK' if f.status == 'OK' else 'ERROR'}]{'' if f.status != 'OK' else '   '} {f.path:<{wide}}"
        f"  {_size(f.num_bytes):>9}  {f.compared_with if f.status == 'OK' else f.status}"
        for f in found.files
    ]
    problems = [f"  - {problem}" for problem in found.problems]
    where = f"  in {found.path}" if found.path else ""
    return "\n".join(line for line in (f"{role}: {found.name}", where, *rows, *problems) if line)


def trial(report: TrialReport) -> str:
    """First pictures: speed, memory and verdicts."""
    plan = report.plan
    adapter = f" with {plan.adapter_dir}" if plan.adapter_dir else ""
    precision = precision_name(plan.precision)
    head = (
        f"First pictures of {plan.name}{adapter}\n"
        f"on {plan.device} in {precision}, {plan.resolution} px, {plan.num_inference_steps} steps ({plan.scheduler})"
    )
    figures = _table(
        [
            ("load", duration(report.load_seconds), ""),
            ("first picture", duration(report.cold_seconds), "cold"),
            ("each further one", duration(report.warm_seconds), f"warm; {report.images_per_minute:.1f} a minute"),
            ("memory", size(report.peak_bytes), f"at most; {size(report.baseline_bytes)} before loading"),
        ]
    )
    marks = {"OK": "[OK]   ", "blank": "[BLANK]", "NaN": "[NaN]  "}
    pictures = "\n".join(f"  {marks[p.verdict]} {p.prompt}" for p in report.pictures)
    blocks = [head, figures, pictures]
    if not report.is_good:
        blocks.append(_advice(report))
    return "\n\n".join([*blocks, f"Pictures: {report.path / GRID}"])


def _advice(report: TrialReport) -> str:
    if report.plan.precision != "no":
        return "Not good: draw in full precision with --train.mixed_precision no, and see `shoes check`."
    other = "another device (--train.device cpu)" if report.plan.device != "cpu" else "another model or adapter"
    return f"Not good: verify the files with `shoes model verify`, and try {other}."


def comparison(found: OptionComparison) -> str:
    """The options side by side, what is skipped below with its reason."""
    plan = found.plan
    head = (
        f"What the options save and cost: {plan.name} on {plan.device}, {plan.resolution} px, "
        f"{plan.batch_size} pictures at once"
    )
    rows: list[tuple[str, ...]] = [("option", "s per image", "from – to", "time", "memory", "", "largest difference")]
    rows += [_measured(row) for row in found.rows if not row.skipped]
    skipped = [f"  {row.name}: {row.skipped}" for row in found.rows if row.skipped]
    blocks = [head, _table(rows)]
    if skipped:
        blocks.append("\n".join(["Not measured here", *skipped]))
    return "\n\n".join([*blocks, f"Kept in {found.path}"])


def _measured(row: OptionTrial) -> tuple[str, ...]:
    seconds = (f"{row.seconds_per_image:.2f}", f"{row.fastest_seconds:.2f} – {row.slowest_seconds:.2f}")
    if row.name == PLAIN:
        return (row.name, *seconds, "", size(row.growth_bytes), "", "")
    bad = "" if row.is_good else ", blank or NaN"
    memory = (size(row.growth_bytes), f"{row.memory_ratio - 1:+.0%}")
    return (row.name, *seconds, f"{row.time_ratio - 1:+.0%}", *memory, f"{row.max_difference} of 255{bad}")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they need; the first to the left, the last free, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        middle = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append(("  " + "  ".join([row[0].ljust(widths[0]), *middle, row[-1]])).rstrip())
    return "\n".join(lines)


def _size(num_bytes: int) -> str:
    return size(num_bytes) if num_bytes >= 1024**2 else f"{num_bytes / 1024:.0f} kB" if num_bytes else "–"
