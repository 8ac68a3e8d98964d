"""What an interval resamples, and what is said where there is too little of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from shoes.evaluation.statistics import LEAST_UNITS
from shoes.reports import FEW_UNITS, Unit

Item = Literal["picture", "photo"]


@dataclass(frozen=True)
class Units:
    """The independent units of some values."""

    unit: Unit
    names: tuple[str, ...]
    """For each value, the unit that it belongs to."""

    @property
    def count(self) -> int:
        """Different ones."""
        return len(set(self.names))

    @property
    def are_enough(self) -> bool:
        """For an interval."""
        return self.count >= LEAST_UNITS

    @property
    def are_many(self) -> bool:
        """For what has no form for few of them: standard errors by leaving one out."""
        return self.count >= FEW_UNITS

    @property
    def why_too_few(self) -> str:
        """Why they say nothing, and what would, as the rest of a sentence."""
        if self.unit == "caption":
            return (
                f"{_count(self.count, 'caption')} can't speak for the others of the data set: {LEAST_UNITS} different "
                "ones are the least; add photos"
            )
        more = "add photos, or raise eval.images_per_caption" if self.unit == "picture" else "add photos"
        return f"{_count(self.count, self.unit)} can't tell chance from gain: {LEAST_UNITS} are the least; {more}"


def choose_units(captions: Sequence[str], items: Sequence[str], item: Item, others: Collection[str]) -> Units:
    """What values are resampled by.

    By captions: a model is to draw other captions as well, and values of one caption are alike. But a data set of
    fewer than `FEW_UNITS` captions, all of which are here, has no other captions: nothing is to be concluded for
    others, each picture or photo is a fresh draw of what is asked about, and the interval holds for these captions
    alone.

    Args:
        captions: of the values.
        items: of the values: pictures where the value is about a picture and its caption, photos where a photo is
            looked at, too.
        item: what the items are.
        others: captions of the photos that were trained on.
    """
    different = set(captions)
    if len(different) < FEW_UNITS and different and different.issuperset(others):
        return Units(item, tuple(items))
    return Units("caption", tuple(captions))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
