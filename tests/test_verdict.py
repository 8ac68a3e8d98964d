"""The verdict says what the numbers say; the decision follows from it."""

from pathlib import Path

import pytest

from shoes import verdict
from shoes.publishing.promotion import decide
from shoes.reports import Comparison, EvaluationReport, Interval, PromotionReport
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
