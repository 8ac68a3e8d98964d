"""The verdict says what the numbers say; the decision follows from it."""

from pathlib import Path
from typing import Any

import pytest

from shoes import verdict
from shoes.publishing.promotion import decide
from shoes.reports import (
    Comparison,
    EvaluationReport,
    Interval,
    Intervention,
    Judge,
    Memorisation,
    PausedTraining,
    PromotionReport,
)
from shoes.spec import GateSpec, Metric
from shoes.tracking.registry import Champion


def interval(low: float, high: float) -> Interval:
    return Interval(mean=(low + high) / 2, low=low, high=high, level=0.95, num_clusters=20, num_values=40)


def evaluation(*pairs: tuple[str, float, float], identical: bool = False, **more: Any) -> EvaluationReport:
    comparisons = tuple(
        Comparison(
            against=against,
            clip_score=interval(low, high),
            clip_image_similarity=interval(low, high),
            identical=identical,
        )
        for against, low, high in pairs
    )
    place = Path("/x")
    return EvaluationReport(
        fingerprint="e",
        path=place,
        adapter_sha256="mine",
        arms=(),
        comparisons=comparisons,
        grid=place,
        scores=place,
        seconds=1,
        **more,
    )


def alarm(*, fires: bool) -> Memorisation:
    return Memorisation(
        fires=fires,
        reason="20 of the 20 closest pictures are drawn ones",
        judge="dino",
        z=5.0 if fires else 0.1,
        p_tail=1e-6 if fires else 0.5,
        share_close=1.0,
        num_drawn=400,
        num_held_out=400,
        is_enough=True,
    )


def champion(sha: str = "other", base: str = "base") -> Champion:
    return Champion("3", sha, Path("/x"), base, None)


@pytest.mark.parametrize(
    ("report", "holder", "promote", "reason"),
    [
        (evaluation(("base", 0.1, 2)), None, True, "differs from the base's by"),
        (evaluation(("base", -0.1, 2)), None, False, "includes 0"),
        (evaluation(("base", -3, -1)), None, False, "worse than the base"),
        (evaluation(("base", 0, 0), identical=True), None, False, "same pictures"),
        (evaluation(("base", 0.1, 2), ("champion", 0.1, 1)), champion(), True, "champion's by"),
        (evaluation(("base", 0.1, 2), ("champion", -0.1, 1)), champion(), False, "reliably better than the champion"),
        (evaluation(("base", 0.1, 2)), champion("mine"), True, "champion already"),
        (evaluation(("base", 0.1, 2)), champion(base="another"), False, "another base model"),
    ],
)
def test_the_alias_moves_only_on_a_whole_interval_above_0(
    report: EvaluationReport, holder: Champion | None, promote: bool, reason: str
) -> None:
    decision = decide(report, GateSpec(), holder, "base")
    assert decision.promote is promote
    assert reason in decision.reason


DINO = Judge(role="dino", name="facebook/dinov2-base")
STAND_IN = Judge(role="clip", name="data/demo/clip", note="the wanted CLIP could not be had")


@pytest.mark.parametrize(
    ("report", "gate", "promote", "reason"),
    [
        (
            evaluation(("base", 1, 2), memorisation=alarm(fires=True)),
            {},
            False,
            "memorisation alarm fired: 20 of the 20",
        ),
        (evaluation(("base", 1, 2), memorisation=alarm(fires=False)), {}, True, "base's by"),
        (evaluation(("base", 1, 2), judges=(STAND_IN,)), {}, False, "wanted CLIP could not be had"),
        (evaluation(("base", 1, 2)), {"min_difference": 0.9}, True, "base's by"),
        (evaluation(("base", 1, 2)), {"min_difference": 1.5}, False, "more than +1.50 is wanted"),
        (evaluation(("base", -1, 2)), {"metric": "clip_image_similarity"}, False, "likeness to the real photos"),
        (evaluation(("base", 1, 2)), {"metric": "clip_image_similarity"}, True, "likeness to the real photos"),
        (evaluation(("base", 1, 2)), {"metric": "dino_similarity"}, False, "DINOv2 could not be had"),
        (evaluation(("base", 1, 2), judges=(DINO,)), {"metric": "dino_similarity"}, False, "too few test photos"),
        (evaluation(("base", 1, 2), undecided="so"), {}, False, "no verdict, because so"),
        (evaluation(("base", 1, 2), undecided="so"), {"metric": "clip_image_similarity"}, False, "because so"),
        (evaluation(("base", 0, 0), identical=True, undecided="so"), {}, False, "same pictures"),
    ],
)
def test_thresholds_are_settings(report: EvaluationReport, gate: dict[str, Any], promote: bool, reason: str) -> None:
    decision = decide(report, GateSpec(**gate), None, "base")
    assert decision.promote is promote
    assert reason in decision.reason


def test_the_sentence_speaks_of_the_metric_that_decides() -> None:
    report = evaluation(("base", 1, 2))
    likeness = report.comparisons[0].model_copy(update={"clip_score": interval(-1, 1)})
    found = report.model_copy(update={"comparisons": (likeness,)})
    promotion = promoted_by("clip_image_similarity")
    assert verdict.sentence(found, promotion).startswith("The adapter is more like the real photos than the base")
    assert verdict.sentence(found, promoted_by("dino_similarity")).startswith("No verdict, because")


def promoted_by(metric: Metric) -> PromotionReport:
    return PromotionReport(
        promoted=True,
        reason="because",
        registered_model="m",
        version="1",
        champion_version="1",
        model_uri=None,
        seconds=0,
        metric=metric,
    )


@pytest.mark.parametrize(
    ("report", "promoted", "words"),
    [
        (evaluation(("base", 1, 2)), True, "better than the base"),
        (evaluation(("base", 1, 2)), False, "not promoted"),
        (evaluation(("base", -1, 2)), False, "No reliable difference"),
        (evaluation(("base", -2, -1)), False, "worse"),
        (evaluation(("base", 0, 0), identical=True), False, "No difference"),
        (evaluation(("base", 0, 0), identical=True, undecided="so"), False, "No difference"),
        (evaluation(("base", 1, 2), undecided="2 pictures can't tell"), False, "No verdict, because 2 pictures can't"),
    ],
)
def test_the_sentence(report: EvaluationReport, promoted: bool, words: str) -> None:
    promotion = PromotionReport(
        promoted=promoted,
        reason="because",
        registered_model="m",
        version="1",
        champion_version=None,
        model_uri=None,
        seconds=0,
    )
    assert words in verdict.sentence(report, promotion)


def test_a_pause_says_where_why_and_how_to_go_on() -> None:
    from shoes.spec import Recipe

    report = PausedTraining(
        fingerprint="f",
        run_dir=Path("/runs/f"),
        step=500,
        max_train_steps=3000,
        reason="the window ends at 07:00",
        device="mps",
        precision="fp32",
        seconds=1800,
    )
    first, *lines = verdict.paused(Recipe(), report).splitlines()
    assert first == (
        "The training paused at 500 of 3,000 steps: the window ends at 07:00; the next run goes on from there."
    )
    assert lines[0] == ("  trained for 30 min 0 s so far, on mps; steps left: 2,500, about 2 h 30 min at this pace")
    assert "the same command again" in lines[-1]
    at_once = report.model_copy(update={"step": 0})
    assert "steps left: 3,000\n" in verdict.paused(Recipe(), at_once), "no pace is known yet"


def test_only_a_training_that_saved_itself_says_so(night) -> None:
    usual = verdict.trained(night.recipe, night.training)
    done = Intervention(step=7, kind="micro_batch", detail="on with micro-batches of 1 in the place of 2")
    saved = verdict.trained(night.recipe, night.training.model_copy(update={"interventions": (done,)}))
    assert set(saved.splitlines()) - set(usual.splitlines()) == {
        "  trouble at step 7: on with micro-batches of 1 in the place of 2"
    }
    assert "trouble" not in usual
