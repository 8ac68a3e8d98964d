from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoes.errors import EvaluationError, Problem
from shoes.evaluation.drawings import Drawing, plan_drawings
from shoes.evaluation.gates import (
    blank_pictures,
    check_pictures,
    check_scores,
    check_test_split,
    is_blank,
    require,
    why_blank,
    why_clip_cannot_tell,
)
from shoes.evaluation.scores import ImageScore
from shoes.spec import EvalSpec


def row(arm: str, cosine: float, photo_cosine: float | None = None) -> ImageScore:
    return ImageScore(
        arm=arm,
        image="0000.png",
        photo="1.png",
        caption="red",
        scored_caption="red",
        seed=1,
        cosine=cosine,
        photo_cosine=photo_cosine,
    )


def fine() -> dict[str, list[ImageScore]]:
    return {
        "base": [row("base", 0.2, 0.5)] * 2,
        "real": [row("real", 0.3)] * 2,
        "shuffled": [row("shuffled", -0.1)] * 2,
    }


EXPECTED = {"base": 2, "real": 2, "shuffled": 2}


def save(folder: Path, *arrays: np.ndarray) -> list[Path]:
    paths = [folder / f"{n}.png" for n in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array.astype(np.uint8)).save(path)
    return paths


def product(seed: int = 0) -> np.ndarray:
    """A small grey thing on white: about as empty as a catalogue photo gets."""
    array = np.full((64, 64, 3), 255)
    array[28:34, 20:40] = np.random.default_rng(seed).integers(60, 200, (6, 20, 3))
    return array


def test_good_pictures_and_scores_pass(tmp_path: Path) -> None:
    assert check_pictures("base", save(tmp_path, product(), product(1)), 2) == []
    assert check_scores(fine(), EXPECTED) == []
    require([])


def test_blank_pictures_are_told_from_dark_ones() -> None:
    black, speckled = np.zeros((64, 64, 3)), np.zeros((64, 64, 3))
    speckled[0, :20] = 255
    dark = np.random.default_rng(0).integers(0, 30, (64, 64, 3))
    one_colour = np.full((64, 64, 3), (200, 30, 30))
    blank = [is_blank(Image.fromarray(a.astype(np.uint8))) for a in (black, speckled, one_colour)]
    assert blank == [True, True, True]
    assert not is_blank(Image.fromarray(dark.astype(np.uint8)))
    assert not is_blank(Image.fromarray(product().astype(np.uint8)))


def test_a_black_image_is_named(tmp_path: Path) -> None:
    paths = save(tmp_path, product(), np.zeros((64, 64, 3)))
    assert check_pictures("adapter", paths, 2) == [], "another try would draw it again as it is"
    assert (blank_pictures(paths[:1]), blank_pictures(paths)) == ([], paths[1:])
    assert why_blank({"base": paths[:1]}, {}) == ""
    assert why_blank({"base": paths[:1], "adapter": paths}, {"adapter": paths[1:]}) == (
        "pictures are blank, in fp32 as well: 1 of 2 by adapter (1.png)"
    )


def test_missing_and_damaged_images_stop_the_verdict(tmp_path: Path) -> None:
    paths = save(tmp_path, product(), product(), product())
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:100])
    (problem,) = check_pictures("base", paths, 3)
    assert "2 of 3 pictures are missing or damaged: 0.png, 1.png" in problem.what


def test_a_wrong_count_stops_the_verdict(tmp_path: Path) -> None:
    (problem,) = check_pictures("base", save(tmp_path, product()), 2)
    assert "1 pictures where 2 were expected" in problem.what
    (problem,) = check_scores({**fine(), "base": [row("base", 0.2, 0.5)]}, EXPECTED)
    assert "1 scores where 2 were expected" in problem.what


@pytest.mark.parametrize(("cosine", "photo"), [(float("nan"), 0.5), (float("inf"), 0.5), (0.2, float("nan"))])
def test_a_score_that_is_not_finite_stops_the_verdict(cosine: float, photo: float) -> None:
    scores = fine()
    scores["base"][1] = row("base", cosine, photo)
    (problem,) = check_scores(scores, EXPECTED)
    assert "1 of 2 scores are not finite: 0000.png" in problem.what


@pytest.mark.parametrize("floor", [0.3, 0.4])
def test_a_ceiling_that_is_not_above_the_floor_is_told(floor: float) -> None:
    scores = {**fine(), "shuffled": [row("shuffled", floor)] * 2}
    assert check_scores(scores, EXPECTED) == []
    assert "(30.00)" in why_clip_cannot_tell(scores)


@pytest.mark.parametrize(("floor", "told"), [(0.1, ""), (0.3, "no better than captions of other things (30.00)")])
def test_one_caption_is_compared_with_captions_of_other_things(floor: float, told: str) -> None:
    scores = {name: rows for name, rows in fine().items() if name != "shuffled"}
    found = why_clip_cannot_tell({**scores, "unrelated": [row("unrelated", floor)] * 10})
    assert (told in found, bool(found)) == (True, bool(told))


def test_where_there_is_no_floor_nothing_is_said() -> None:
    assert why_clip_cannot_tell(fine()) == ""
    assert why_clip_cannot_tell({name: rows for name, rows in fine().items() if name != "shuffled"}) == ""


def test_all_problems_come_in_one_error(tmp_path: Path) -> None:
    paths = save(tmp_path, np.zeros((64, 64, 3)), product())
    paths[1].unlink()
    problems = check_pictures("base", paths, 3)
    with pytest.raises(EvaluationError, match=r"2 problems") as caught:
        require(problems)
    assert [type(problem) for problem in caught.value.problems] == [Problem] * 2


def test_a_damaged_photo_is_named(photos) -> None:
    assert check_test_split(photos, plan_drawings(photos, EvalSpec())) == []
    photos[3].image.write_bytes(b"no picture")
    (problem,) = check_test_split(photos, [Drawing("the same", 1, 0), Drawing("the same", 2, 3)])
    assert "1 photos are missing or damaged: 1003.png" in problem.what


@pytest.mark.parametrize("field", ["cosine", "photo_cosine", "second_cosine", "dino_cosine"])
def test_a_score_of_any_judge_that_is_not_finite_is_found(field: str) -> None:
    scores = fine()
    scores["base"][1] = scores["base"][1].model_copy(update={field: float("nan")})
    (problem,) = check_scores(scores, EXPECTED)
    assert (problem.where, "1 of 2 scores are not finite" in problem.what) == ("base", True)
