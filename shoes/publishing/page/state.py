"""The verdict's state: the one word that stands over it."""

from dataclasses import dataclass
from typing import Literal

from shoes.reports import NightReport


@dataclass(frozen=True)
class State:
    """A state, and in which colour it is shown."""

    name: Literal["promoted", "not promoted", "no difference", "no verdict", "alarm"]
    tone: Literal["good", "bad", "plain"]
    words: str


def state(night: NightReport) -> State:
    """An alarm comes before all; identical pictures, or an interval with 0 in it, are no difference."""
    alarm = night.evaluation.memorisation
    if alarm is not None and alarm.fires:
        return State("alarm", "bad", "Memorisation alarm")
    if night.promoted:
        return State("promoted", "good", "Promoted")
    found = night.evaluation.comparisons[0]
    if found.identical:
        return State("no difference", "plain", "No difference")
    difference = found.difference(night.promotion.metric)
    if night.evaluation.undecided or difference is None:
        return State("no verdict", "plain", "No verdict")
    if difference.low <= 0 <= difference.high:
        return State("no difference", "plain", "No reliable difference")
    return State("not promoted", "bad" if difference.high < 0 else "plain", "Not promoted")
