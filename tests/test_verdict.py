"""The verdict says what the numbers say; the decision follows from it."""

from pathlib import Path

import pytest

from shoes import verdict
from shoes.publishing.promotion import decide
from shoes.reports import Comparison, EvaluationReport, Interval, Intervention, PausedTraining, PromotionReport
from shoes.tracking.registry import Champion


def interval(low: float, high: float) -> Interval:
    return Interval(mean=(low + high) / 2, low=low, high=high, level=0.95, num_clusters=20, num_values=40)


def evaluation(*pairs: tuple[str, float, float], identical: bool = False) -> EvaluationReport:
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
    decision = decide(report, holder, "base")
    assert decision.promote is promote
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("report", "promoted", "words"),
    [
        (evaluation(("base", 1, 2)), True, "better than the base"),
        (evaluation(("base", 1, 2)), False, "not promoted"),
        (evaluation(("base", -1, 2)), False, "No reliable difference"),
        (evaluation(("base", -2, -1)), False, "worse"),
        (evaluation(("base", 0, 0), identical=True), False, "No difference"),
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
        "The training paused at step 500 of 3,000: the window ends at 07:00; the next run goes on from there."
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
