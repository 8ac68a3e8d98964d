"""What a stage hands on: frozen, JSON-able, small. Paths are absolute."""

from shoes.reports.base import (
    Interval,
    Report,
)
from shoes.reports.evaluation import (
    ArmScores,
    Breakdown,
    ClosePair,
    Comparison,
    Distance,
    EvaluationReport,
    GalleryRow,
    Judge,
    Memorisation,
    Spread,
)
from shoes.reports.inputs import (
    CheckResult,
    DataReport,
    EnvironmentReport,
    FileCheck,
    ModelCheck,
    ModelReport,
    ModelsReport,
    SplitCount,
)
from shoes.reports.night import (
    NightReport,
    Outcome,
    PromotionReport,
    StageRun,
    StageTime,
)
from shoes.reports.training import (
    CheckpointChoice,
    CheckpointScores,
    HeldOutLoss,
    Intervention,
    ParityTrial,
    PausedTraining,
    TrainReport,
)

__all__ = [
    "ArmScores",
    "Breakdown",
    "CheckResult",
    "CheckpointChoice",
    "CheckpointScores",
    "ClosePair",
    "Comparison",
    "DataReport",
    "Distance",
    "EnvironmentReport",
    "EvaluationReport",
    "FileCheck",
    "GalleryRow",
    "HeldOutLoss",
    "Interval",
    "Intervention",
    "Judge",
    "Memorisation",
    "ModelCheck",
    "ModelReport",
    "ModelsReport",
    "NightReport",
    "Outcome",
    "ParityTrial",
    "PausedTraining",
    "PromotionReport",
    "Report",
    "SplitCount",
    "Spread",
    "StageRun",
    "StageTime",
    "TrainReport",
]
