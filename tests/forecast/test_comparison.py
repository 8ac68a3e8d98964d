"""Which choice is kept."""

import pytest

from shoes.errors import TrainingError
from shoes.forecast.comparison import choose, micro_batches
from shoes.forecast.reports import Choice
from shoes.spec import TrainSpec
from tests.forecast.factory import forecast


def row(precision: str, micro_batch: int, mode: str, seconds: float | None, memory: int = 1) -> Choice:
    return Choice(
        precision=precision,
        micro_batch=micro_batch,
        checkpointing=mode,
        seconds_per_step=seconds,
        training_bytes=memory if seconds else None,
        inference_bytes=1,
        total_seconds=1.0,
        seconds_per_image=1.0,
    )


OWN = row("no", 2, "off", 10.0)


@pytest.mark.parametrize(
    ("rows", "spec", "chosen"),
    [
        ([OWN, row("no", 4, "off", 9.0)], {}, 1),
        ([OWN, row("no", 4, "off", 9.9)], {}, 0),  # by chance
        ([OWN, row("no", 4, "off", 1.0, 10**15)], {}, 0),  # does not fit
        ([OWN, row("no", 4, "off", None)], {}, 0),
        ([OWN, row("bf16", 2, "off", 5.0)], {}, 1),
        ([OWN, row("bf16", 2, "off", 5.0)], {"mixed_precision": "no"}, 0),
        ([OWN, row("no", 2, "full", 5.0)], {"gradient_checkpointing": "off"}, 0),
        ([row("no", 2, "off", None), row("no", 1, "full", 20.0)], {}, 1),  # its own does not fit
    ],
)
def test_the_fastest_that_fits_and_that_the_recipe_leaves_open(
    rows: list[Choice], spec: dict[str, object], chosen: int
) -> None:
    assert choose(rows, TrainSpec(**spec), forecast())[0] == chosen


def test_nothing_that_fits_is_an_error_with_a_fix() -> None:
    with pytest.raises(TrainingError, match=r"train\.mixed_precision"):
        choose([row("no", 1, "off", None)], TrainSpec(), forecast())


def test_micro_batches_divide_the_effective_batch() -> None:
    assert micro_batches(16) == (1, 2, 4, 8, 16)
    assert micro_batches(12) == (1, 2, 4)
    assert micro_batches(1) == (1,)
