"""Defects of a model's files, as people read them."""

import pytest

from shoes.model.contents.words import what
from shoes.reports import Defect


@pytest.mark.parametrize(
    ("kind", "names", "count", "said"),
    [
        ("missing", ("a", "b"), 2, "lacks 2 of the 9 tensors of the UNet2DConditionModel: a, b"),
        ("missing", ("a",), 1, "lacks 1 of the 9 tensors of the UNet2DConditionModel: a"),
        ("left over", ("a",), 1, "holds 1 tensor that the UNet2DConditionModel has no place for: a"),
        ("left over", ("a",), 3, "holds 3 tensors that the UNet2DConditionModel has no place for: a and 2 more"),
        ("not finite", ("a",), 1, "holds NaN or infinity in 1 of its 9 tensors: a"),
        ("shards", ("a",), 1, "lists 9 shards, of which 1 is missing: a"),
        ("shards", ("a", "b"), 2, "lists 9 shards, of which 2 are missing: a, b"),
    ],
)
def test_one_and_several_are_told_apart(kind: str, names: tuple[str, ...], count: int, said: str) -> None:
    assert what(Defect(where="unet/weights", kind=kind, names=names, count=count, total=9)) == said
