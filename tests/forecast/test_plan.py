"""What is counted is what a training does."""

from collections import Counter
from collections.abc import Callable

import pytest

from shoes import stages
from shoes.forecast.plan import PROOF_DRAWINGS, plan
from shoes.publishing.export import export
from shoes.spec import Recipe
from shoes.tracking.journal import read_events
from shoes.training import proving, saving


@pytest.mark.parametrize(
    "flags",
    [
        {},
        pytest.param({"train.max_train_steps": "5"}, marks=pytest.mark.slow),
        {"train.save_steps": "3", "train.validation_steps": "2", "train.checkpointing_steps": "1"},
    ],
)
def test_the_plan_counts_what_the_run_did(
    micro: Callable[..., Recipe], flags: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[object] = []
    proven: list[object] = []
    monkeypatch.setattr(saving, "export", lambda *args, **kwargs: exported.append(args) or export(*args, **kwargs))
    drawn = proving.draw
    monkeypatch.setattr(proving, "draw", lambda *args, **kwargs: proven.append(args) or drawn(*args, **kwargs))
    recipe = micro({"train.validation_images": "2", **flags})
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    work = plan(recipe.train, recipe.eval, data, start_step=0, is_cached=False)
    report = stages.prove(recipe, models, data, stages.train(recipe, models, data))
    done = Counter(event["id"].split("/")[0] for event in read_events(report.run_dir / "journal.jsonl"))
    assert work.num_steps == report.step
    assert work.num_validations == done["validation"]
    assert work.num_candidates == len(exported)
    assert len(proven) == PROOF_DRAWINGS


def test_a_plan_from_the_middle_counts_what_is_left(micro: Callable[..., Recipe]) -> None:
    recipe = micro({"train.max_train_steps": "10", "train.save_steps": "4", "train.validation_steps": "3"})
    data = stages.prepare_data(recipe)
    left = plan(recipe.train, recipe.eval, data, start_step=6, is_cached=True)
    assert left.num_steps == 4
    assert left.num_candidates == 2, "steps 8 and 10"
    assert left.num_validations == 3, "steps 8, 9 and 10"
    assert left.num_checkpoints == 3
    assert left.num_photos_to_encode == 0
