"""Every error that this project raises for people.

    ShoesError
    ├── ConfigurationError     the recipe, a setting or a flag is wrong; holds all the problems
    ├── NotReady               this machine can't train
    ├── DataError              the data set or a source photo set is not what it says it is
    ├── ModelError             model files are missing, damaged, or of another architecture
    ├── TrainingError          training can't go on
    ├── EvaluationError        a verdict can't be given
    ├── ExportError            a published form is not the adapter that it should be
    ├── ServiceError           the system's service manager refused
    ├── TrackingRefused        the tracking server refuses the user, the password or the address
    ├── Busy                   another process holds this run or this device
    └── TransientError         waiting and trying again may help: the only kind that retries
        └── TrackingUnavailable    the tracking server does not answer

Messages name the fix. What only a bug can break is an `assert`.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ShoesError(Exception):
    """Base of all errors with a message for people."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where it is, and what to do about it."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n    fix: {self.fix}"


class ProblemsError(ShoesError):
    """An error that tells all its problems at once."""

    headline = "Something is wrong"

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an error needs at least one problem"
        self.problems = tuple(problems)
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        super().__init__(f"{self.headline} ({count}):\n" + "\n".join(f"  - {p}" for p in problems))

    def __reduce__(self) -> tuple[type, tuple[tuple[Problem, ...]]]:
        # Prefect stores exceptions of failed tasks; the default would call __init__ with the message.
        return type(self), (self.problems,)


class ConfigurationError(ProblemsError):
    """The recipe, a setting or a flag is wrong."""

    headline = "The configuration can't be used"


class NotReady(ProblemsError):  # noqa: N818
    """This machine can't train."""

    headline = "This machine is not ready"


class DataError(ProblemsError):
    """The data set or a source of photos is not what it says it is."""

    headline = "The data can't be used"


class ModelError(ProblemsError):
    """Model files are missing, damaged, or of another architecture."""

    headline = "The model can't be used"


class TrainingError(ShoesError):
    """Training can't go on."""


class EvaluationError(ProblemsError):
    """A verdict can't be given."""

    headline = "No verdict can be given"


class ExportError(ShoesError):
    """A form in which an adapter is published is not the adapter that it should be."""


class ServiceError(ShoesError):
    """The system's service manager refused what it was asked."""


class TrackingRefused(ShoesError):  # noqa: N818
    """The tracking server refuses the user, the password or the address: waiting does not mend it."""


class Busy(ShoesError):  # noqa: N818
    """Another process holds this run or this device."""


class TransientError(ShoesError):
    """Waiting and trying again may help."""


class TrackingUnavailable(TransientError):  # noqa: N818
    """The tracking server does not answer."""
