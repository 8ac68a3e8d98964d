"""The shared night's adapter as the registered model's champion, whatever its few steps were worth."""

from shoes import stages
from shoes.reports import PromotionReport


def crown(night) -> PromotionReport:
    comparison = night.evaluation.comparisons[0]
    better = comparison.clip_score.model_copy(update={"mean": 2.0, "low": 1.0, "high": 3.0})
    won = comparison.model_copy(update={"clip_score": better, "identical": False})
    evaluation = night.evaluation.model_copy(update={"comparisons": (won,)})
    return stages.promote(night.recipe, night.models, night.data, night.training, evaluation)
