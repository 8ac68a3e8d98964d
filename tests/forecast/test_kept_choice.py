"""What a comparison found is kept for the machine, and used by the run: with real measurements of the tiny model."""

from collections.abc import Callable

import pytest

from shoes import stages
from shoes.forecast import child
from shoes.spec import Recipe
from shoes.training import choice
from shoes.training.run import plan_decisions
from tests.forecast.factory import job_of


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "SECONDS_PER_MEASUREMENT", 0.2)


@pytest.mark.parametrize(
    ("precision", "accumulation", "sizes"),
    [("no", "1", {1}), pytest.param("auto", "2", {1, 2}, marks=pytest.mark.slow)],
)
def test_the_choice_is_kept_and_used_by_the_run(
    micro: Callable[..., Recipe], precision: str, accumulation: str, sizes: set[int]
) -> None:
    changes = {
        "train_batch_size": "1",
        "gradient_accumulation_steps": accumulation,
        "gradient_checkpointing": "auto",
        "mixed_precision": precision,
    }
    recipe = micro({f"train.{name}": value for name, value in changes.items()})
    _, models, data = job_of(recipe)
    found, _ = stages.compare(recipe, models, data)
    assert {(row.precision, row.checkpointing) for row in found.rows} >= {("no", "off"), ("no", "full")}
    assert {row.micro_batch for row in found.rows} == sizes
    chosen = found.rows[found.chosen]
    assert chosen.seconds_per_step is not None
    decisions = plan_decisions(job_of(recipe)[0])
    assert (decisions.precision, decisions.micro_batch) == (chosen.precision, chosen.micro_batch)
    assert decisions.checkpointing == chosen.checkpointing
    assert "measured here" in decisions.reasons["micro_batch"]


def test_another_micro_batch_trains_the_same_adapter(micro: Callable[..., Recipe]) -> None:
    import numpy as np

    from shoes.device import measure
    from shoes.publishing.export import weights_of

    adapters = []
    for size in (2, 4):
        recipe = micro({"train.logging_dir": f"runs-{size}"})
        job, models, data = job_of(recipe)
        kind = choice.KeptChoice(precision="no", micro_batch=size, checkpointing="off", reason="a test")
        choice.keep(choice.place(job.cache, job.spec, job.model.fingerprint, measure()), kind)
        adapters.append(weights_of(stages.train(recipe, models, data).adapter_dir))
    for name, weight in adapters[0].items():
        np.testing.assert_allclose(weight, adapters[1][name], rtol=1e-3, atol=1e-5)
