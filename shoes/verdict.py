"""The verdict of a night in plain words: a pure function of the stages' reports."""

from collections.abc import Sequence

from shoes.device.parity import in_words
from shoes.progress import duration, size
from shoes.publishing.promotion import NAMES
from shoes.reports import (
    ArmScores,
    Comparison,
    EvaluationReport,
    Memorisation,
    Outcome,
    PausedTraining,
    PromotionReport,
    StageTime,
    TrainReport,
)
from shoes.spec import Recipe


def sentence(evaluation: EvaluationReport, promotion: PromotionReport) -> str:
    """The verdict in one sentence."""
    against_base = evaluation.comparisons[0]
    if against_base.identical:
        return "No difference: the adapter draws the same pictures as the base."
    if evaluation.undecided:
        return f"No verdict, because {evaluation.undecided}."
    difference = against_base.difference(promotion.metric)
    if difference is None:
        return f"No verdict, because {promotion.reason}."
    change = f"{NAMES[promotion.metric]} {difference} against the base"
    if promotion.metric == "clip_score":
        better, worse = "draws the captions better than the base", "draws the captions worse than the base"
    else:
        better, worse = "is more like the real photos than the base", "is less like the real photos than the base"
    if difference.low > 0:
        end = "it is the champion" if promotion.promoted else f"it was not promoted: {promotion.reason}"
        return f"The adapter {better}, {change}; {end}."
    if difference.high < 0:
        return f"The adapter {worse}, {change}; it was not promoted."
    return f"No reliable difference: {change}, which includes 0; it was not promoted."


def text(
    recipe: Recipe,
    training: TrainReport,
    evaluation: EvaluationReport,
    promotion: PromotionReport,
    stages: Sequence[StageTime],
    where: Sequence[str],
    forecast: Outcome | None = None,
) -> str:
    """The whole verdict, as it is printed at the end of a run; `where` are lines on where to look."""
    blocks = [
        sentence(evaluation, promotion),
        trained(recipe, training),
        scores(evaluation),
        _stages(stages),
        *([forecast_outcome(forecast)] if forecast else []),
        "\n".join(["Where to look", *(f"  {line}" for line in where)]),
    ]
    return "\n\n".join(blocks)


def trained(recipe: Recipe, report: TrainReport) -> str:
    """What was trained, how it went."""
    resumed = f", taken up again at step {', '.join(map(str, report.resumed_from))}" if report.resumed_from else ""
    base, chosen = report.losses[0], next(loss for loss in report.losses if loss.step == report.chosen_step)
    return "\n".join(
        [
            "Trained",
            f"  a LoRA of rank {recipe.train.rank} ({report.num_trainable_parameters:,} parameters) on "
            f"{recipe.model.pretrained_model_name_or_path}",
            f"  {report.step:,} of {report.max_train_steps:,} steps of {recipe.train.effective_batch_size} images, "
            f"on {report.device}, {report.images_per_second:.3g} images a second{resumed}",
            *_fallback(report),
            *_interventions(report),
            *_doubts(report),
            f"  ended because {report.end_reason}; step {report.chosen_step:,} is exported",
            f"  {_why_this_step(report)}",
            f"  held-out loss {base.mean:.4f} → {chosen.mean:.4f}, {_loss_change(report)}",
        ]
    )


def _loss_change(report: TrainReport) -> str:
    if report.loss_difference is None:
        return "on too few validation photos to tell more"
    return f"a change of {report.loss_difference.text(4)}; below 0 is better"


def _why_this_step(report: TrainReport) -> str:
    return report.choice.reason if report.choice else f"step {report.chosen_step:,} has the lowest held-out loss"


def _fallback(report: TrainReport) -> list[str]:
    """One line when the device computed wrong in the precision that was meant."""
    return [f"  {in_words(report.parity)}"] if len(report.parity) > 1 else []


def _interventions(report: TrainReport) -> list[str]:
    """One line for each time that the training saved itself."""
    return [f"  trouble at step {done.step:,}: {done.detail}" for done in report.interventions]


def _doubts(report: TrainReport) -> list[str]:
    """One line for each exported form whose picture rounding does not explain."""
    said = report.proof.doubts if report.proof else ()
    where = f"; the pictures are in {report.run_dir / 'proof'}"
    return [f"  doubt: {doubt}{where}" for doubt in said]


def paused_sentence(report: PausedTraining) -> str:
    """Where a training stopped, why, and how it goes on, in one sentence."""
    return f"The training paused at {report.progress}: {report.reason}; the next run goes on from there."


def paused(recipe: Recipe, report: PausedTraining) -> str:
    """A training that goes on another time: how far it is, what is left, and what to do."""
    left = report.max_train_steps - report.step
    rest = f", about {duration(report.seconds / report.step * left)} at this pace" if report.step else ""
    return "\n".join(
        [
            paused_sentence(report),
            f"  trained for {duration(report.seconds)} so far, on {report.device}; steps left: {left:,}{rest}",
            f"  every step is saved in {report.run_dir}",
            f"  to go on: the same command again, or the next scheduled run of {recipe.name}",
        ]
    )


def scores(report: EvaluationReport) -> str:
    """The table of the evaluation."""
    return "\n".join(
        [
            "Scores on the test photos (100 × cosine; rows are means over images, differences means over captions)",
            f"  {'':<10}{'images':>7}{'CLIP score':>12}{'like the real photo':>22}{'distance (CMMD)':>19}",
            *(_arm_row(arm) for arm in report.arms),
            *(line for comparison in report.comparisons for line in _comparison_rows(comparison)),
            *([f"  repeats training photos: {_repeats(report.memorisation)}"] if report.memorisation else []),
            *(f"  judged by {judge.name}{f': {judge.note}' if judge.note else ''}" for judge in report.judges),
            *(f"  {note}" for note in report.notes),
        ]
    )


def _arm_row(arm: ArmScores) -> str:
    values = (arm.clip_score, arm.clip_image_similarity, arm.cmmd.value if arm.cmmd else None)
    cells = ("" if value is None else f"{value:.2f}" for value in values)
    widths = (12, 22, 19)
    row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"  {arm.name:<10}{arm.num_images:>7}{row}".rstrip()


def _comparison_rows(comparison: Comparison) -> list[str]:
    title = f"adapter − {comparison.against}"
    named = {
        "CLIP score": comparison.clip_score,
        "second CLIP": comparison.second_clip_score,
        "likeness": comparison.clip_image_similarity,
        "DINOv2": comparison.dino_similarity,
    }
    lines = [f"{name:<11} {found}" for name, found in named.items() if found is not None]
    if comparison.cmmd is not None:
        lines.append(f"{'distance':<11} {comparison.cmmd.value:+.2f} ± {2 * comparison.cmmd.standard_error:.2f}")
    if comparison.held_out_loss is not None:
        lines.append(f"{'loss':<11} {comparison.held_out_loss.text(4)}")
    if not lines:
        return [f"  {title}: too few captions or photos to tell"]
    starts = [f"{title}:", *[""] * (len(lines) - 1)]
    return [f"  {start:<{len(title) + 1}} {line}" for start, line in zip(starts, lines, strict=True)]


def _repeats(found: Memorisation) -> str:
    if found.fires:
        return f"YES, {found.reason}"
    few = "" if found.is_enough else f"; {found.num_drawn} pictures are few for that to mean much"
    return f"no sign of it (z {found.z:+.1f}, closest pictures p = {found.p_tail:.2g}){few}"


def forecast_outcome(found: Outcome) -> str:
    """What was forecast, beside what happened."""
    lines = [
        f"  training  {duration(found.predicted_seconds)}, and it took {duration(found.actual_seconds)} "
        f"({found.time_error:+.0%})",
        f"  memory    {size(found.predicted_peak_bytes)}, and it took {size(found.actual_peak_bytes)} "
        f"({found.memory_error:+.0%})",
    ]
    return "\n".join(["What the forecast said", *lines])


def _stages(stages: Sequence[StageTime]) -> str:
    lines = [f"  {stage.name:<20}{duration(stage.seconds):>12}" for stage in stages]
    total = duration(sum(stage.seconds for stage in stages))
    return "\n".join(["Time, each stage's own work", *lines, f"  {'together':<20}{total:>12}"])
