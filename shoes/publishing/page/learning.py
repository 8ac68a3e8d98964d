"""How the training went: curves, and which checkpoint was taken."""

import re
from collections.abc import Sequence

from shoes.publishing.page import numbers, svg
from shoes.publishing.page.charts import Chart, Line, Table, curves
from shoes.publishing.page.evidence import Evidence
from shoes.reports import CheckpointScores, HeldOutLoss, TrainReport

_POINTS, _ROWS = 240, 24
"""Most points of a curve, and rows of its table."""


def charts(evidence: Evidence) -> tuple[Chart, ...]:
    """Held-out loss, training loss, learning rate, loss by timestep, where they are known."""
    found = (
        held_out(evidence.night.train),
        _by_timestep(evidence),
        _of_steps(evidence, "train/loss_smoothed", "Training loss", "Smoothed loss of the training batches."),
        _of_steps(evidence, "train/lr", "Learning rate", "Of AdamW, as the schedule and the recoveries made it."),
    )
    return tuple(chart for chart in found if chart is not None)


def held_out(train: TrainReport) -> Chart | None:
    """Held-out loss over the steps, beside the loss on as many training photos; None for a single point."""
    if len(train.losses) < 2:
        return None
    steps = [loss.step for loss in train.losses]
    margins = [numbers.margin(loss.standard_error) for loss in train.losses]
    band = " (band: ± 2 standard errors over photos)" if any(margins) else ""
    lines = [
        Line("photos held out", steps, [loss.mean for loss in train.losses], svg.ACCENT, margins),
        Line("photos trained on", steps, [loss.train_mean for loss in train.losses], svg.SECOND, is_dashed=True),
    ]
    rows = tuple(
        (
            f"{loss.step:,}",
            f"{numbers.plain(loss.mean, 4)}{_margin(loss)}",
            numbers.plain(loss.train_mean, 4),
            numbers.signed(loss.mean - loss.train_mean, 4),
        )
        for loss in train.losses
    )
    return curves(
        "held-out-loss",
        "Held-out loss",
        f"Denoising loss on validation photos{band} and on as many training photos. Where the two part, the adapter "
        "learns its photos by heart.",
        lines,
        axis="step",
        table=Table(("step", "held out ± 2 SE", "trained on", "gap"), rows),
        mark=(train.chosen_step, "exported"),
    )


def _of_steps(evidence: Evidence, metric: str, title: str, caption: str) -> Chart | None:
    values = evidence.series(metric)
    if len(values) < 2:
        return None
    steps, shown = _thinned(list(values), _POINTS), _thinned(list(values), _ROWS)
    rows = tuple((f"{step:,}", f"{values[step]:.3g}") for step in shown)
    return curves(
        metric.replace("/", "-"),
        title,
        caption,
        [Line(title.lower(), steps, [values[step] for step in steps], svg.ACCENT)],
        axis="step",
        table=Table(("step", title.lower()), rows),
    )


def _thinned(steps: Sequence[int], most: int) -> list[int]:
    """At most about so many of the steps, the last one among them."""
    every = -(-len(steps) // most)
    return list(dict.fromkeys([*steps[::every], steps[-1]]))


def _by_timestep(evidence: Evidence) -> Chart | None:
    """Change of the held-out loss at each noise level, exported step against base."""
    chosen = evidence.night.train.chosen_step
    metrics = {name for event in evidence.events if event["kind"] == "metrics" for name in event["values"]}
    names = {int(name.removeprefix("val/loss/t")): name for name in metrics if re.fullmatch(r"val/loss/t\d+", name)}
    series = {timestep: evidence.series(name) for timestep, name in sorted(names.items())}
    pairs = {t: (values[0], values[chosen]) for t, values in series.items() if values.get(0) and chosen in values}
    if len(pairs) < 2 or chosen == 0:
        return None
    change = {t: 100 * (now / base - 1) for t, (base, now) in pairs.items()}
    rows = tuple(
        (str(t), numbers.plain(base, 4), numbers.plain(now, 4), f"{numbers.signed(change[t], 1)} %")
        for t, (base, now) in pairs.items()
    )
    return curves(
        "by-timestep",
        "Held-out loss by noise level",
        "Change against the base in percent, below 0 is better. On the left almost a photo, on the right almost noise.",
        [Line("change in percent", list(change), list(change.values()), svg.ACCENT)],
        axis="timestep",
        table=Table(("timestep", "base", f"step {chosen:,}", "change"), rows),
        with_zero=True,
    )


def checkpoints(train: TrainReport) -> tuple[Table, str]:
    """All checkpoints that were candidates, and why one of them was exported."""
    if train.choice is None:
        rows = tuple(
            (
                _mark(loss.step, train.chosen_step),
                numbers.plain(loss.mean, 4),
                numbers.NOTHING if loss.standard_error is None else numbers.plain(2 * loss.standard_error, 4),
            )
            for loss in train.losses
        )
        return Table(("step", "held-out loss", "± 2 SE"), rows), "The one with the lowest held-out loss is exported."
    found = train.choice.checkpoints
    columns = {
        "held-out loss": [numbers.plain(row.loss, 4) for row in found],
        "minus the lowest": [numbers.interval(row.loss_minus_best, 4) for row in found],
        "shortlisted": ["yes" if row.is_shortlisted else "no" for row in found],
        "CLIP score": [numbers.plain(row.clip_score) for row in found],
        "minus the highest": [numbers.interval(row.clip_minus_best) for row in found],
        "CMMD ± 2 SE": [_cmmd(row) for row in found],
    }
    kept = {title: cells for title, cells in columns.items() if set(cells) != {numbers.NOTHING}}
    steps = [_mark(row.step, train.chosen_step) for row in found]
    return Table(("step", *kept), tuple(zip(steps, *kept.values(), strict=True))), train.choice.reason


def _margin(loss: HeldOutLoss) -> str:
    return "" if loss.standard_error is None else f" ± {numbers.plain(2 * loss.standard_error, 4)}"


def _mark(step: int, chosen: int) -> str:
    return f"{step:,} (exported)" if step == chosen else f"{step:,}"


def _cmmd(row: CheckpointScores) -> str:
    if row.cmmd is None:
        return numbers.NOTHING
    return numbers.plain(row.cmmd) + (f" ± {numbers.plain(2 * row.cmmd_error)}" if row.cmmd_error is not None else "")
