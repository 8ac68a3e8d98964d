"""What a check is: a name, a function, a time limit, and when a failure means that nothing can be trained."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event
from typing import Literal

from shoes.language import mark
from shoes.settings import Settings
from shoes.spec import Recipe

Status = Literal["OK", "WARN", "ERROR", "INFO"]

STATUS_NAMES = (mark("OK"), mark("WARN"), mark("ERROR"), mark("INFO"))

Moment = Literal["by hand", "in the flow"]
"""Who asks. By hand, the data set and the model have to be there or it must be known how they are made. In the
flow they are made and verified by the stages that follow, so they are information."""

ALWAYS: frozenset[Moment] = frozenset({"by hand", "in the flow"})
BY_HAND: frozenset[Moment] = frozenset({"by hand"})
NEVER: frozenset[Moment] = frozenset()


@dataclass(frozen=True)
class Finding:
    """What a check found; an empty `fix` means that nothing needs doing."""

    status: Status
    detail: str
    """What people read: one line, or several with a newline between them."""
    fix: str = ""
    missing: tuple[str, ...] = ()
    """Packages to install, by their names on the package index."""


@dataclass(frozen=True)
class Situation:
    """What a check may look at."""

    recipe: Recipe
    settings: Settings
    moment: Moment
    libraries: Event | None = field(default=None, compare=False)
    """Set when the checks that import large libraries have ended; None: nobody imports any beside the check."""

    def await_libraries(self) -> None:
        """Wait until nobody else imports large libraries: two threads that begin at different ones can break both."""
        if self.libraries is not None:
            self.libraries.wait()

    @cached_property
    def device(self) -> str:
        """The device that the recipe resolves to. Loads torch.

        Raises:
            ConfigurationError: the recipe names a device that this machine lacks.
        """
        from shoes.device import choose_device, measure

        return choose_device(self.recipe.train.device, measure()).value


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    """English and stable: machines know the line by it, and people see its translation."""
    find: Callable[[Situation], Finding]
    """May raise: the line then says so."""
    critical: frozenset[Moment]
    """When an ERROR means that this machine is not ready."""
    limit_seconds: float
    """A check that takes longer is left behind and reported."""
    packages: tuple[str, ...] = ()
    """Packages, by their names on the index, that this line answers for: others that miss them refer to it."""
    needs: tuple[str, ...] = ()
    """Packages that other lines answer for; when one of these lines is an ERROR, this check is not tried."""
    imports: bool = False
    """It imports large libraries: these go one after the other, beside the rest."""
