"""Whether an adapter takes the champion's place: a pure decision, and the registry that carries it out."""

import time
from dataclasses import dataclass

from shoes.reports import Comparison, EvaluationReport, PromotionReport
from shoes.tracking.registry import Candidate, Champion, Registry


@dataclass(frozen=True)
class Decision:
    """Promote or not, and the reason in words."""

    promote: bool
    reason: str


def decide(evaluation: EvaluationReport, champion: Champion | None, base_fingerprint: str) -> Decision:
    """The alias moves only when the whole interval of the CLIP difference lies above 0.

    The difference to the base counts, and that to the champion if there is one over the same base model.
    """
    if champion is not None and champion.adapter_sha256 == evaluation.adapter_sha256:
        return Decision(True, f"this adapter is the champion already (version {champion.version})")
    if champion is not None and champion.base_fingerprint != base_fingerprint:
        return Decision(
            False,
            f"the champion (version {champion.version}) belongs to another base model, and can't be compared; "
            "give this base model a publish.registered_model of its own",
        )
    for comparison in evaluation.comparisons:
        if not comparison.is_better:
            return Decision(False, _why_not(comparison))
    best = evaluation.comparisons[-1]
    return Decision(True, f"its CLIP score differs from the {best.against}'s by {best.clip_score}")


def _why_not(comparison: Comparison) -> str:
    if comparison.identical:
        return f"it draws the same pictures as the {comparison.against}: no difference"
    low, high = comparison.clip_score.low, comparison.clip_score.high
    word = "worse than" if high < 0 else "not reliably better than"
    return f"it is {word} the {comparison.against}: CLIP difference {comparison.clip_score}" + (
        "; the interval includes 0" if low <= 0 <= high else ""
    )


def promote(
    candidate: Candidate,
    evaluation: EvaluationReport,
    registry: Registry,
    registered_model: str,
) -> PromotionReport:
    """Register the adapter, and move the alias if the decision says so.

    Raises:
        TrackingUnavailable: MLflow does not answer; trying again later is safe.
    """
    started = time.monotonic()
    champion = registry.champion()
    decision = decide(evaluation, champion, candidate.base_fingerprint)
    version = registry.register(candidate)
    if decision.promote and (champion is None or champion.version != version):
        registry.promote(version, beat=champion.version if champion else None)
    current = version if decision.promote else champion.version if champion else None
    return PromotionReport(
        promoted=decision.promote,
        reason=decision.reason,
        registered_model=registered_model,
        version=version,
        champion_version=current,
        model_uri=f"models:/{registered_model}@champion" if current else None,
        seconds=time.monotonic() - started,
    )
