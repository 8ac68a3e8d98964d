"""What a night is: frozen specs, made once from a recipe and checked when made.

Only specs, reports (`shoes.reports`), paths and id strings cross a stage boundary.
"""

from shoes.spec.base import Checkpointing, DeviceChoice, Fraction, Metric, Precision, SchedulerName, Spec
from shoes.spec.evaluation import EvalSpec, GateSpec, InferenceSpec
from shoes.spec.inputs import DataSpec, ModelSpec
from shoes.spec.recipe import ClockTime, PublishSpec, Recipe, WindowSpec
from shoes.spec.training import TrainSpec

__all__ = [
    "Checkpointing",
    "ClockTime",
    "DataSpec",
    "DeviceChoice",
    "EvalSpec",
    "Fraction",
    "GateSpec",
    "InferenceSpec",
    "Metric",
    "ModelSpec",
    "Precision",
    "PublishSpec",
    "Recipe",
    "SchedulerName",
    "Spec",
    "TrainSpec",
    "WindowSpec",
]
