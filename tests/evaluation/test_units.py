"""What is said where there is too little to conclude from."""

import pytest

from shoes.evaluation.units import Units
from shoes.reports import Unit


@pytest.mark.parametrize(
    ("unit", "says"),
    [
        (
            "picture",
            "2 pictures can't tell chance from gain: 3 are the least; add photos, or raise eval.images_per_caption",
        ),
        ("photo", "2 photos can't tell chance from gain: 3 are the least; add photos"),
        (
            "caption",
            "2 captions can't speak for the others of the data set: 3 different ones are the least; add photos",
        ),
    ],
)
def test_what_would_help_is_said_for_each_unit(unit: Unit, says: str) -> None:
    found = Units(unit, ("a", "b", "a"))
    assert not found.are_enough
    assert found.why_too_few == says
