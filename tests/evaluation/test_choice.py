"""The choice of a checkpoint: shortlist by loss, the earliest whose pictures are not worse, the reason in words."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shoes.evaluation.arms import Tools
from shoes.evaluation.candidates import ChoiceInputs, choose_checkpoint
from shoes.evaluation.choice import Pictured, choose, lowest, shortlist
from shoes.evaluation.distances import Estimate
from shoes.evaluation.inputs import Adapter, Arm, Canvas, JudgeModel, Photos, drawing_settings
from shoes.evaluation.pictures import Draw
from shoes.reports import CheckpointChoice, HeldOutLoss, Interval
from shoes.spec import EvalSpec
from tests.evaluation.conftest import Photo


def losses(*means: float, spread: float = 0.0) -> dict[int, np.ndarray]:
    """By step 100, 200, …: 20 photos × 8 timesteps with exactly this mean; the differences vary by `spread`."""
    random = np.random.default_rng(0)
    photos = random.normal(0, 0.02, (20, 1)) + np.zeros((1, 8))
    found = {}
    for number, mean in enumerate(means):
        values = photos + spread * random.standard_normal((20, 8))
        found[100 * (number + 1)] = values - values.mean() + mean
    return found


def test_within_one_paired_error_is_shortlisted() -> None:
    assert shortlist(losses(0.10, 0.08, 0.0805, 0.09)) == [200], "photos vary, the differences do not"
    assert shortlist(losses(0.10, 0.08, 0.0805, 0.09, spread=0.01)) == [200, 300]
    assert shortlist(losses(0.08, 0.08)) == [100, 200], "equal losses are both as good"


def test_one_photo_has_no_error() -> None:
    assert shortlist({1: np.array([[0.2]]), 2: np.array([[0.1]])}) == [2]


def interval(low: float, high: float) -> Interval:
    return Interval(mean=(low + high) / 2, low=low, high=high, level=0.95, num_clusters=9, num_values=9)


BEST = Pictured(None, None)
FINE = Pictured(interval(-1, 0.5), Estimate(0.1, 0.1))
UNLIKE = Pictured(interval(-2, -0.1), None)
FAR = Pictured(None, Estimate(1.0, 0.4))


@pytest.mark.parametrize(
    ("pictured", "step"),
    [
        ({100: BEST}, 100),
        ({100: FINE, 200: BEST}, 100),
        ({100: UNLIKE, 200: BEST}, 200),
        ({100: FAR, 200: BEST}, 200),
        ({100: FAR, 200: FINE, 300: BEST}, 200),
        ({100: UNLIKE, 200: FAR}, 200),
    ],
)
def test_the_earliest_that_is_not_worse(pictured: dict[int, Pictured], step: int) -> None:
    assert choose(pictured) == step


def held_out(found: dict[int, np.ndarray], train: float = 0.05) -> list[HeldOutLoss]:
    means = {0: 0.2, **{step: float(values.mean()) for step, values in found.items()}}
    return [HeldOutLoss(step=s, mean=m, standard_error=0.01, train_mean=min(m, train)) for s, m in means.items()]


@pytest.fixture
def make_choice(tmp_path: Path, photos, clip_path: Path) -> Callable[..., ChoiceInputs]:
    def make(found: dict[int, np.ndarray], **changes: Any) -> ChoiceInputs:
        spec = EvalSpec(num_resamples=200, choice_images=16)
        values: dict[str, Any] = {
            "spec": spec,
            "validation": Photos(photos, "validation photos"),
            "candidates": {step: Adapter(tmp_path / str(step), f"adapter {step}") for step in found},
            "losses": held_out(found),
            "photo_losses": found,
            "loss_captions": [photos[number % 16].caption for number in range(20)],
            "training_captions": [photo.caption for photo in photos],
            "canvas": Canvas("model", drawing_settings(spec, 64, "cpu", "no"), tmp_path / "cache"),
            "clip": JudgeModel("tiny clip", clip_path, "clip"),
            "device": "cpu",
            "batch_size": 8,
            "out_dir": tmp_path / "choice",
        }
        return ChoiceInputs(**{**values, **changes})

    return make


class Drawing:
    """Draws by the name of the arm, and remembers which were asked for."""

    def __init__(self, **draws: Draw) -> None:
        self.draws, self.asked = draws, list[str]()

    def __call__(self, arm: Arm) -> Draw:
        self.asked.append(arm.name)
        return self.draws[arm.name.replace("-", "_")]


def choose_by(inputs: ChoiceInputs, drawing: Drawing) -> CheckpointChoice:
    return choose_checkpoint(inputs, Tools(drawing), lambda done, total, note="": None)


CLOSE = losses(0.0801, 0.08, 0.2, spread=0.01)


def test_pictures_decide_between_losses_that_are_alike(make_choice, boxes: Draw, grey_boxes: Draw) -> None:
    drawing = Drawing(step_000100=grey_boxes, step_000200=boxes)
    choice = choose_by(make_choice(CLOSE), drawing)
    assert choice.step == 200
    assert drawing.asked == ["step-000100", "step-000200"], "the third is not on the list"
    rows = {row.step: row for row in choice.checkpoints}
    assert [rows[step].is_shortlisted for step in (0, 100, 200, 300)] == [False, True, True, False]
    assert rows[100].clip_score < rows[200].clip_score
    assert rows[100].clip_minus_best.high < 0
    assert rows[100].cmmd > rows[200].cmmd
    assert rows[300].clip_score is None
    assert rows[300].loss_minus_best.low > 0
    assert "(those of 100 are)" in choice.reason
    assert (choice.judge, choice.num_images) == ("tiny clip", 16)


def test_the_earlier_of_two_that_draw_alike(make_choice, boxes: Draw) -> None:
    choice = choose_by(make_choice(CLOSE), Drawing(step_000100=boxes, step_000200=boxes))
    assert choice.step == 100
    assert "step 100 is the earliest whose pictures are not worse" in choice.reason


def test_one_alone_is_taken_without_a_picture(make_choice) -> None:
    choice = choose_by(make_choice(losses(0.1, 0.08, 0.12)), Drawing())
    assert (choice.step, choice.judge, choice.num_images) == (200, "", 0)
    assert "no other is within one standard error" in choice.reason
    assert "After it the training overfitted" in choice.reason
    assert "held-out loss had risen by 0.0400, and the gap to the loss on training photos by 0.0400" in choice.reason


@pytest.mark.parametrize("captions", [["one"] * 2, ["one", "other"]])
def test_two_photos_can_not_tell_checkpoints_apart_and_nothing_is_drawn(make_choice, photos, captions) -> None:
    few = [Photo(photo.image, caption) for photo, caption in zip(photos, captions, strict=False)]
    found = {100: np.array([[0.10], [0.12]]), 200: np.array([[0.08], [0.135]])}
    assert shortlist(found) == [100, 200]
    trained_on = [*captions, "more"] if len(set(captions)) > 1 else captions
    inputs = make_choice(found, validation=Photos(few, "few"), loss_captions=captions, training_captions=trained_on)
    choice = choose_by(inputs, Drawing())
    assert choice.step == lowest(found) == 200
    assert "pictures could not tell them apart, because 2 " in choice.reason
    assert [row.is_shortlisted for row in choice.checkpoints] == [False, True, True]
    assert all(row.loss_minus_best is None for row in choice.checkpoints)


def test_pictures_of_the_only_caption_decide(make_choice, photos, boxes: Draw, grey_boxes: Draw) -> None:
    """Its photos are too few for a distance; its pictures are not for a CLIP score."""
    red = photos[1].caption
    few = [Photo(photo.image, red) for photo in photos[1:16:4]]
    inputs = make_choice(CLOSE, validation=Photos(few, "few"), training_captions=[red] * 4)
    choice = choose_by(inputs, Drawing(step_000100=grey_boxes, step_000200=boxes))
    worse, best = choice.checkpoints[1:3]
    assert (choice.step, worse.cmmd, best.cmmd) == (200, None, None)
    assert (worse.clip_minus_best.unit, worse.clip_minus_best.num_clusters) == ("picture", 4)
    assert worse.clip_minus_best.high < 0


def test_a_choice_is_made_once(make_choice, boxes: Draw, tmp_path: Path) -> None:
    first = choose_by(make_choice(CLOSE), Drawing(step_000100=boxes, step_000200=boxes))
    assert choose_by(make_choice(CLOSE), Drawing()) == first
    file = tmp_path / "choice" / f"{first.fingerprint}.json"
    file.write_text(file.read_text()[:100])
    again = choose_by(make_choice(CLOSE), Drawing())
    assert again.model_copy(update={"seconds": first.seconds}) == first, "drawn pictures are kept"


def test_all_that_decides_a_choice_is_in_its_name(make_choice, photos, tmp_path: Path) -> None:
    other = {step: Adapter(tmp_path, "other") for step in CLOSE}
    changed = [{}, {"candidates": other}, {"validation": Photos(photos, "others")}]
    changed += [{"clip": JudgeModel("other", tmp_path, "other")}, {"losses": held_out(CLOSE, train=0.01)}]
    changed += [{"spec": EvalSpec(num_resamples=200, choice_images=8)}]
    names = [make_choice(CLOSE, **change).fingerprint for change in changed]
    assert len(set(names)) == len(names)
    assert make_choice(CLOSE, batch_size=2, out_dir=tmp_path).fingerprint == names[0]


def black(drawings) -> Iterator[Image.Image]:
    for _ in drawings:
        yield Image.new("RGB", (64, 64))


def test_a_checkpoint_that_draws_blank_pictures_is_left_out(make_choice, boxes: Draw) -> None:
    found = choose_by(make_choice(CLOSE), Drawing(step_000100=black, step_000200=boxes))
    assert found.step == 200
    assert found.reason.endswith("; step 100 drew blank pictures")
    scores = {row.step: row.clip_score for row in found.checkpoints}
    assert (scores[100], scores[200] is None) == (None, False), "what is blank is not scored"


def test_where_all_draw_blank_pictures_the_held_out_loss_chooses(make_choice) -> None:
    found = choose_by(make_choice(CLOSE), Drawing(step_000100=black, step_000200=black))
    assert found.step == min(CLOSE, key=lambda step: CLOSE[step].mean())
    assert "pictures could not tell them apart, because all of them are blank" in found.reason
