"""One night, put together."""

import difflib
import re
from typing import Annotated, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, field_validator, model_validator

from shoes.spec.base import Spec
from shoes.spec.evaluation import EvalSpec, GateSpec, InferenceSpec
from shoes.spec.inputs import DataSpec, ModelSpec
from shoes.spec.training import TrainSpec


class PublishSpec(Spec, title="Names in MLflow"):
    """Names in MLflow."""

    experiment: str = "casual-shoes-lora"
    """MLflow experiment that holds the runs."""
    registered_model: str = "casual-shoes-lora"
    """Registered model whose alias `champion` is the best adapter so far."""

    @field_validator("experiment", "registered_model")
    @classmethod
    def _be_a_name(cls, name: str) -> str:
        if not name or any(c in name for c in "/:") or name != name.strip():
            raise ValueError("must be a name without '/', ':' or blanks around it")
        return name


def _clock_time(text: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError("is no time of day: write hours and minutes, such as 07:00 or 22:30")
    return text


ClockTime = Annotated[str, AfterValidator(_clock_time)]


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        near = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"is no time zone: write its IANA name, such as America/Sao_Paulo{hint}")
    return name


TimeZone = Annotated[str, AfterValidator(_time_zone)]


class WindowSpec(Spec, title="Window: the hours of a night"):
    """The hours that a night may take. The forecast says whether they are enough."""

    starts: ClockTime | None = None
    """Hour and minute of the start, such as 22:00; nothing means at once."""
    ends: ClockTime | None = None
    """Hour and minute at which the machine is needed again, such as 07:00; nothing means no end."""
    timezone: TimeZone | None = None
    """Time zone of both, such as America/Sao_Paulo; nothing means this machine's own."""

    @model_validator(mode="after")
    def _be_open_for_some_time(self) -> Self:
        if self.starts is not None and self.starts == self.ends:
            raise ValueError(f"starts and ends are both {self.starts}: leave one of them out, or give it some hours")
        return self


class Recipe(Spec):
    """One night: which model, data and settings, and under which names it is kept."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] = "overnight"
    """Lower case name of the recipe, shown in MLflow and Prefect."""
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    train: TrainSpec = TrainSpec()
    eval: EvalSpec = EvalSpec()
    gate: GateSpec = GateSpec()
    inference: InferenceSpec = InferenceSpec()
    publish: PublishSpec = PublishSpec()
    window: WindowSpec = WindowSpec()

    @property
    def title(self) -> str:
        """What a run of this recipe is called in MLflow and Prefect, such as `overnight sd15 r8 3000`."""
        base = self.model.short_name
        parts = [self.name, *([base] if base != self.name else []), f"r{self.train.rank}", self.train.max_train_steps]
        return " ".join(map(str, parts))
