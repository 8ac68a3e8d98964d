"""What is advised follows from what was found."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoes import recipes
from shoes.publishing.page.advice import is_overfitting, next_steps, weak_values
from shoes.reports import Comparison, HeldOutLoss, NightReport
from tests.publishing import sample_night as sample
from tests.publishing.sample_night import comparison, interval

SPEC = Path("/nights/run 1/spec.toml")


def losses(*pairs: tuple[float, float]) -> tuple[HeldOutLoss, ...]:
    return tuple(
        HeldOutLoss(step=100 * number, mean=mean, standard_error=0.0005, train_mean=train)
        for number, (mean, train) in enumerate(pairs)
    )


CALM = losses((0.130, 0.130), (0.120, 0.120), (0.1199, 0.1199))


def make(folder: Path, against: Comparison | None = None, **changes: Any) -> NightReport:
    """A night with nothing to say about it, but for what is changed."""
    evaluation = sample.evaluation(
        folder / "e",
        comparisons=(against or comparison("base", 4.0, 1.0),),
        judges=(),
        breakdowns=(),
        memorisation=sample.memorisation(folder) if (alarm := changes.pop("alarm", None)) is None else alarm,
        **changes.pop("evaluation", {}),
    )
    quiet = {"losses": CALM, "chosen_step": 200, "step": 200, "interventions": (), "parity": ()}
    train = sample.train(folder, **(quiet | changes.pop("train", {})))
    return sample.night(folder, evaluation=evaluation, train=train, **changes)


def alarm(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"alarm": sample.memorisation(folder, **changes)}


CASES: dict[str, tuple[Callable[[Path], dict[str, Any]], str, str]] = {
    "alarm": (
        lambda f: alarm(f, fires=True),
        "Train it less",
        "--train.max_train_steps 100 --train.lr_warmup_steps 10",
    ),
    "too few pictures": (lambda f: alarm(f, is_enough=False), "Draw more pictures", "--eval.images_per_caption 4"),
    "identical": (
        lambda _: {"against": comparison("base", 0, 0, identical=True)},
        "Let it learn",
        "learning_rate 0.0003",
    ),
    "unclear": (
        lambda _: {"against": comparison("base", 0.6, 1.0)},
        "Measure more precisely",
        "--eval.half_width 0.48",
    ),
    "blank pictures by the base": (
        lambda _: {"evaluation": {"undecided": "pictures are blank", "num_blank": {"base": 2, "adapter": 3}}},
        "See what the base draws",
        "model try",
    ),
    "blank pictures by the adapter": (
        lambda _: {"evaluation": {"undecided": "pictures are blank", "num_blank": {"adapter": 3}}},
        "Train more gently",
        "learning_rate 5e-05",
    ),
    "undecided": (
        lambda _: {"evaluation": {"undecided": "2 captions can't speak for the others"}},
        "Give it photos",
        "shoes data import",
    ),
    "nothing there": (lambda _: {"against": comparison("base", 0.1, 1.0)}, "Train longer", "max_train_steps 6000"),
    "worse": (lambda _: {"against": comparison("base", -3, 1)}, "more gently", "--train.learning_rate 5e-05"),
    "overfits": (
        lambda _: {"train": {"losses": losses((0.13, 0.13), (0.12, 0.12), (0.125, 0.11)), "chosen_step": 100}},
        "Stop earlier",
        "--train.rank 4 --train.lora_alpha 8",
    ),
    "still learning": (
        lambda _: {"train": {"losses": losses((0.13, 0.13), (0.12, 0.12), (0.11, 0.11))}},
        "Train longer",
        "max_train_steps 6000",
    ),
    "memory": (
        lambda f: {"train": {"interventions": sample.train(f).interventions[1:]}},
        "Plan for the memory",
        "shoes forecast --compare",
    ),
    "not finite": (
        lambda f: {"train": {"interventions": sample.train(f).interventions[:1]}},
        "lower rate",
        "--train.learning_rate 5e-05",
    ),
    "wrong device": (
        lambda f: {"train": {"parity": sample.train(f).parity}},
        "wrong with the device",
        "check --explain",
    ),
    "no MLflow": (lambda _: {"run_id": None}, "Send the run to MLflow", "shoes run --recipe"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_finding_has_its_advice_and_its_command(tmp_path: Path, case: str) -> None:
    changes, title, command = CASES[case]
    given = changes(tmp_path)
    steps = next_steps(make(tmp_path / "run", **given), recipes.load("overnight"), SPEC)
    found = [step for step in steps if title in step.title]
    assert len(found) == 1, [step.title for step in steps]
    assert command in found[0].command
    calm = next_steps(make(tmp_path / "calm"), recipes.load("overnight"), SPEC)
    assert not [step for step in calm if title in step.title]


def test_a_champion_is_drawn_with_loaded_and_exported(tmp_path: Path) -> None:
    steps = next_steps(make(tmp_path / "run"), recipes.load("overnight"), SPEC)
    assert [step.title for step in steps] == [
        "Draw with the champion",
        "Export it",
        "Load it in diffusers",
        "Load it from MLflow",
    ]
    assert steps[0].command.startswith("shoes generate --recipe '/nights/run 1/spec.toml' 'a professional")
    refused = next_steps(make(tmp_path / "run", promoted=False), recipes.load("overnight"), SPEC)
    assert [step.title for step in refused] == ["Draw with the adapter all the same"]


def test_the_run_s_own_recipe_is_what_the_commands_name(tmp_path: Path) -> None:
    """spec.toml holds all values, with `none` where there is none; the reader of recipes takes it."""
    sample.write_beside(tmp_path)
    assert recipes.load(str(tmp_path / "spec.toml")) == recipes.load("overnight")
    assert tomllib.loads((tmp_path / "spec.toml").read_text())["eval"]["num_images"] == "none"


@pytest.mark.parametrize(
    ("values", "chosen", "expected"),
    [
        (((0.13, 0.13), (0.12, 0.12), (0.125, 0.11)), 100, True),
        (((0.13, 0.13), (0.12, 0.12), (0.125, 0.11)), 200, False),
        (((0.13, 0.13), (0.12, 0.12), (0.1204, 0.12)), 100, False),
        (((0.13, 0.13),), 0, False),
    ],
)
def test_overfitting_needs_a_gap_that_grew_after_an_early_choice(values: Any, chosen: int, expected: bool) -> None:
    assert is_overfitting(losses(*values), chosen) is expected


def test_weak_colours_are_those_whose_interval_lies_below_the_others(tmp_path: Path) -> None:
    rows = sample._breakdowns()
    assert [row.value for row in weak_values(rows)] == ["Olive", "Navy Blue"]
    even = [row.model_copy(update={"adapter": 30, "base": 26, "difference": interval(4, 1)}) for row in rows]
    assert weak_values(even) == ()


def test_advice_and_state_look_at_what_the_gate_looks_at(tmp_path: Path) -> None:
    """Clearly better by CLIP score, and unclear by the likeness that decides."""
    from shoes.publishing.page.state import state

    found = comparison("base", 4.0, 1.0, clip_image_similarity=interval(1.0, 2.0))
    night = make(tmp_path, found)
    promotion = night.promotion.model_copy(update={"metric": "clip_image_similarity", "promoted": False})
    unclear = night.model_copy(update={"promotion": promotion, "promoted": False})
    assert "Measure more precisely" in [step.title for step in next_steps(unclear, None, SPEC)]
    assert state(unclear).words == "No reliable difference"
    assert "Measure more precisely" not in [step.title for step in next_steps(night, None, SPEC)]
