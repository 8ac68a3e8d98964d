"""Whether an adapter takes the champion's place: a pure decision, and the registry that carries it out."""

import time
from dataclasses import dataclass

from shoes.reports import Comparison, EvaluationReport, PromotionReport
from shoes.spec import GateSpec
from shoes.tracking.registry import Candidate, Champion, Registry

NAMES = {
    "clip_score": "CLIP score",
    "clip_image_similarity": "likeness to the real photos (CLIP)",
    "dino_similarity": "likeness to the real photos (DINOv2)",
}
"""The gate's metrics, as a person reads them."""


@dataclass(frozen=True)
class Decision:
    """Promote or not, and the reason in words."""

    promote: bool
    reason: str


def decide(evaluation: EvaluationReport, gate: GateSpec, champion: Champion | None, base_fingerprint: str) -> Decision:
    """The alias moves only when the memorisation alarm is silent, and the whole interval of the gate's metric lies
    above its least difference.

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
    if found := _faults(evaluation):
        return Decision(False, found)
    is_seen = {"dino_similarity": any(judge.role == "dino" for judge in evaluation.judges)}
    for comparison in evaluation.comparisons:
        why_not = _why_not(comparison, gate, is_measured=is_seen.get(gate.metric, True))
        if why_not:
            return Decision(False, why_not)
    best = evaluation.comparisons[-1]
    return Decision(
        True, f"its {NAMES[gate.metric]} differs from the {best.against}'s by {best.difference(gate.metric)}"
    )


def _faults(evaluation: EvaluationReport) -> str:
    """What keeps any adapter from being judged, whatever the differences; empty when nothing does."""
    if evaluation.stand_in:
        return f"{evaluation.stand_in}; evaluate again when the right one is here: shoes model fetch"
    if evaluation.memorisation is not None and evaluation.memorisation.fires:
        return f"the memorisation alarm fired: {evaluation.memorisation.reason}"
    if evaluation.undecided and not evaluation.comparisons[0].identical:
        return f"no verdict, because {evaluation.undecided}"
    return ""


def _why_not(comparison: Comparison, gate: GateSpec, *, is_measured: bool) -> str:
    """What keeps the adapter from taking the other's place; empty when nothing does."""
    found, name = comparison.difference(gate.metric), NAMES[gate.metric]
    if comparison.identical:
        return f"it draws the same pictures as the {comparison.against}: no difference"
    if found is None and not is_measured:
        return f"{name} was not measured: DINOv2 could not be had; evaluate again when it is here: shoes model fetch"
    if found is None:
        return f"there are too few test photos to tell its {name} from the {comparison.against}'s; more photos would"
    if found.low > gate.min_difference:
        return ""
    word = "worse than" if found.high < 0 else "not reliably better than"
    end = "; the interval includes 0" if found.low <= 0 <= found.high else ""
    if found.low > 0:
        word, end = "not better enough than", f"; more than {gate.min_difference:+.2f} is wanted"
    return f"it is {word} the {comparison.against}: {name} differs by {found}{end}"


def promote(
    candidate: Candidate,
    evaluation: EvaluationReport,
    gate: GateSpec,
    registry: Registry,
    registered_model: str,
) -> PromotionReport:
    """Register the adapter, and move the alias if the decision says so.

    Raises:
        TrackingUnavailable: MLflow does not answer; trying again later is safe.
    """
    started = time.monotonic()
    champion = registry.champion()
    decision = decide(evaluation, gate, champion, candidate.base_fingerprint)
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
        metric=gate.metric,
    )
