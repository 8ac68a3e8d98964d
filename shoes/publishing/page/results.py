"""What the evaluation found: differences, arms, and where the adapter is weak."""

from collections.abc import Callable, Mapping, Sequence

from shoes.publishing.page import numbers
from shoes.publishing.page.charts import Bar, Chart, Table, intervals
from shoes.reports import ArmScores, Breakdown, Comparison, Distance, EvaluationReport, Interval

ARMS = {
    "base": "Base model",
    "adapter": "Adapter",
    "champion": "Champion",
    "real": "Real test photos (ceiling)",
    "shuffled": "Captions shuffled (floor)",
    "unrelated": "Captions of other things (floor)",
    "train": "Training photos (floor of distances)",
}
_INTERVALS = (
    ("CLIP score", "clip_score"),
    ("Second CLIP", "second_clip_score"),
    ("Likeness, CLIP", "clip_image_similarity"),
    ("Likeness, DINOv2", "dino_similarity"),
)


def differences(evaluation: EvaluationReport) -> tuple[Chart, ...]:
    """Adapter minus each other arm, by unit: points, CMMD, loss."""
    charts = [chart for other in evaluation.comparisons if (chart := _points(other)) is not None]
    distances = [_distance_bar(other) for other in evaluation.comparisons if other.cmmd is not None]
    if distances:
        caption = "Difference of the two CMMDs to the real test photos (× 1000), ± 2 standard errors."
        charts.append(intervals("cmmd", "CMMD: distance to the real photos", caption, distances, "below"))
    losses = [
        _bar(f"minus {other.against}", other.held_out_loss, digits=4)
        for other in evaluation.comparisons
        if other.held_out_loss is not None
    ]
    if losses:
        caption = "Difference of the denoising loss on test photos that were never trained on."
        charts.append(intervals("loss-difference", "Held-out loss on the test photos", caption, losses, "below"))
    return tuple(charts)


def _points(other: Comparison) -> Chart | None:
    """Everything in points against one arm; none where there are too few captions, pictures or photos."""
    values = ((title, getattr(other, field)) for title, field in _INTERVALS)
    found = {title: value for title, value in values if isinstance(value, Interval)}
    if not found:
        return None
    bars = [_bar(title, value) for title, value in found.items()]
    same = " Both drew the same pictures." if other.identical else ""
    return intervals(
        f"minus-{other.against}",
        f"Adapter minus {other.against}",
        f"Mean with its {_over(found)}, in points of 100 × cosine. Where the line crosses 0 there is no reliable "
        f"difference.{same}",
        bars,
        "above",
    )


def _over(found: Mapping[str, Interval]) -> str:
    """The level of intervals, and what they resample."""
    level = next(iter(found.values())).level
    few = sorted({f"only {one.num_clusters} {one.unit}s" for one in found.values() if one.few})
    units = dict.fromkeys(f"{one.unit}s" for one in found.values())
    return f"{level:.0%} interval over {' and '.join(few or units)}"


def interval_in_words(evaluation: EvaluationReport) -> str:
    """What an interval is, or why there is none."""
    found = next((value for other in evaluation.comparisons if (value := other.clip_score) is not None), None)
    if found is None:
        return "There is none: too few captions, pictures or photos to tell."
    kind = "Student's t, because they are few," if found.few else "bootstrap (BCa)"
    return f"{found.level:.0%} interval over {found.num_clusters} {found.unit}s, {kind} paired by caption and seed."


def _bar(label: str, value: Interval, digits: int = 2) -> Bar:
    return Bar(label, value.mean, value.low, value.high, digits)


def _distance_bar(other: Comparison) -> Bar:
    assert isinstance(other.cmmd, Distance)
    margin = 2 * other.cmmd.standard_error
    return Bar(f"minus {other.against}", other.cmmd.value, other.cmmd.value - margin, other.cmmd.value + margin)


def arms(evaluation: EvaluationReport) -> Table:
    """One row per arm; a column only where something was measured."""
    columns: list[tuple[str, Callable[[ArmScores], str]]] = [
        ("pictures", lambda arm: f"{arm.num_images:,}"),
        ("CLIP score", lambda arm: numbers.plain(arm.clip_score)),
        ("interval", lambda arm: _span(arm.clip_score_interval)),
        ("second CLIP", lambda arm: numbers.plain(arm.second_clip_score)),
        ("like the photo (CLIP)", lambda arm: numbers.plain(arm.clip_image_similarity)),
        ("like the photo (DINOv2)", lambda arm: numbers.plain(arm.dino_similarity)),
        ("CMMD ± 2 SE", lambda arm: numbers.distance(arm.cmmd)),
        ("test loss", lambda arm: numbers.plain(arm.held_out_loss, 4)),
    ]
    return _table("", columns, evaluation.arms)


def _span(value: Interval | None) -> str:
    return numbers.NOTHING if value is None else f"{numbers.plain(value.low)} to {numbers.plain(value.high)}"


def spreads(evaluation: EvaluationReport) -> Table | None:
    """How well each arm covers the real photos; None where it was not measured."""
    measured = [arm for arm in evaluation.arms if arm.spread is not None]
    names = ("precision", "recall", "density", "coverage", "vendi")
    rows = [
        (
            ARMS.get(arm.name, arm.name),
            str(arm.spread.num_images),
            *(numbers.plain(getattr(arm.spread, n)) for n in names),
        )
        for arm in measured
        if arm.spread
    ]
    return Table(("", "pictures", *names), tuple(rows)) if rows else None


def _table(first: str, columns: Sequence[tuple[str, Callable[[ArmScores], str]]], found: Sequence[ArmScores]) -> Table:
    cells = [(title, [text(arm) for arm in found]) for title, text in columns]
    kept = [(title, texts) for title, texts in cells if set(texts) != {numbers.NOTHING}]
    rows = zip((ARMS.get(arm.name, arm.name) for arm in found), *(texts for _, texts in kept), strict=True)
    return Table((first, *(title for title, _ in kept)), tuple(rows))


def breakdowns(found: Sequence[Breakdown]) -> tuple[Chart, ...]:
    """One chart per attribute; what has too few captions for an interval is in its table only."""
    attributes = dict.fromkeys(row.attribute for row in found)
    charts = (_breakdown(name, [row for row in found if row.attribute == name]) for name in attributes)
    return tuple(chart for chart in charts if chart is not None)


def _breakdown(attribute: str, rows: Sequence[Breakdown]) -> Chart | None:
    bars = [_bar(f"{row.value} ({row.num_images})", row.difference) for row in rows if row.difference]
    if not bars:
        return None
    left_out = [row.value for row in rows if row.difference is None]
    few = f" Too few captions for an interval: {', '.join(left_out)}." if left_out else ""
    caption = f"CLIP score, adapter minus base; in brackets the number of pictures.{few}"
    chart = intervals(f"by-{attribute}", f"By {attribute}", caption, bars, "above")
    table = Table(
        (attribute, "pictures", "base", "adapter", "difference"),
        tuple(
            (
                row.value,
                str(row.num_images),
                numbers.plain(row.base),
                numbers.plain(row.adapter),
                numbers.interval(row.difference),
            )
            for row in rows
        ),
    )
    return Chart(chart.name, chart.title, chart.caption, chart.drawing, table)
