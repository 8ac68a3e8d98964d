"""What an evaluation finds beyond the first score: other judges, repeats, parts, losses, and pictures drawn again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoes.errors import EvaluationError
from shoes.evaluation.arms import Tools
from shoes.evaluation.inputs import Arm, EvaluationInputs, JudgeModel, Judges
from shoes.evaluation.pictures import Draw, open_picture
from shoes.evaluation.suite import evaluate
from shoes.evaluation.table import HeldOut
from shoes.publishing.promotion import decide
from shoes.spec import GateSpec

MakeInputs = Callable[..., EvaluationInputs]


@pytest.fixture
def tools(boxes: Draw, grey_boxes: Draw) -> Tools:
    return Tools(lambda arm: grey_boxes if arm.name == "base" else boxes)


def test_three_judges_score_what_they_were_asked_for(
    make_inputs: MakeInputs, tools: Tools, clip_path: Path, dino_path: Path
) -> None:
    clip = JudgeModel("tiny clip", clip_path, "clip")
    judges = Judges(clip, second_clip=JudgeModel("the same again", clip_path, "second"), dino=_dino(dino_path))
    report = evaluate(make_inputs(judges=judges), tools)
    (comparison,) = report.comparisons
    assert comparison.second_clip_score == comparison.clip_score, "the same model, so the same scores"
    assert comparison.dino_similarity is not None
    assert comparison.dino_similarity.num_values == 16
    assert comparison.dino_similarity != comparison.clip_image_similarity, "each judge has eyes of its own"
    by_name = {arm.name: arm for arm in report.arms}
    assert by_name["real"].second_clip_score == by_name["real"].clip_score
    assert by_name["real"].dino_similarity is None
    assert by_name["adapter"].dino_similarity is not None
    assert [judge.role for judge in report.judges] == ["clip", "second_clip", "dino"]
    assert report.memorisation is not None
    assert report.memorisation.judge == "tiny dino"


def test_without_other_judges_their_columns_are_empty(make_inputs: MakeInputs, tools: Tools) -> None:
    report = evaluate(make_inputs(left_out=("DINOv2 could not be had",)), tools)
    (comparison,) = report.comparisons
    assert (comparison.second_clip_score, comparison.dino_similarity, comparison.held_out_loss) == (None, None, None)
    assert report.notes == ("DINOv2 could not be had",)
    assert report.memorisation is not None
    assert report.memorisation.judge == "tiny clip"


def test_what_the_judges_saw_is_kept(
    make_inputs: MakeInputs, tools: Tools, clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    from shoes.evaluation.clip import ClipScorer

    embed = ClipScorer.embed_images

    def count(self, images, **options):
        listed = list(images)
        looked.append(len(listed))
        return embed(self, listed, **options)

    monkeypatch.setattr(ClipScorer, "embed_images", count)
    evaluate(make_inputs(), tools)
    assert sorted(looked) == [8, 12, 16, 16, 16], "validation, training and test photos, and two arms"
    evaluate(make_inputs(spec={"seed": 9, "num_resamples": 300}), tools)
    assert sorted(looked[5:]) == [16, 16], "another seed draws other pictures of the same captions"


def test_parts_of_the_test_split_are_told_apart(make_inputs: MakeInputs, tools: Tools) -> None:
    parts = {(part.attribute, part.value): part for part in evaluate(make_inputs(), tools).breakdowns}
    assert set(parts) == {("colour", c) for c in ("black", "red", "blue", "green")} | {
        ("season", "summer"),
        ("season", "winter"),
    }
    red, summer = parts["colour", "red"], parts["season", "summer"]
    assert (red.num_images, red.difference) == (4, None), "two captions are too few"
    assert red.adapter > red.base
    assert (summer.num_images, summer.difference.num_clusters) == (8, 4)
    assert summer.difference.low < summer.difference.mean < summer.difference.high


def test_copies_of_training_photos_sound_the_alarm(make_inputs: MakeInputs, training_photos, boxes: Draw) -> None:
    """Every picture is one of the training photos."""

    def copy(drawings) -> Iterator[Image.Image]:
        for number, _ in enumerate(drawings):
            yield Image.open(training_photos[number % len(training_photos)].image)

    inputs = make_inputs(spec={"images_per_caption": 4})
    found = evaluate(inputs, Tools(lambda arm: boxes if arm.name == "base" else copy)).memorisation
    assert found.fires
    assert found.pairs[0].similarity == pytest.approx(100, abs=0.01)
    first = found.pairs[0]
    assert open_picture(first.drawn).tobytes() == open_picture(first.photo).tobytes()
    assert len(found.pairs) == 20
    assert not found.is_enough, "64 pictures are few"
    assert (found.num_drawn, found.num_held_out) == (64, 24), "test and validation photos"


def test_the_gallery_outlives_the_cache(make_inputs: MakeInputs, tools: Tools, tmp_path: Path) -> None:
    import shutil

    report = evaluate(make_inputs(), tools)
    shutil.rmtree(tmp_path / "cache")
    assert len(report.gallery) == 8, "one row a caption"
    for row in report.gallery:
        assert list(row.pictures) == ["base", "adapter"]
        assert all(open_picture(path).size == (64, 64) for path in (*row.pictures.values(), row.real, row.nearest))


def test_losses_of_the_arms_are_compared_photo_by_photo(make_inputs: MakeInputs, tools: Tools) -> None:
    captions = ["a", "a", "b", "c"]
    losses = {"base": [0.4, 0.5, 0.6, 0.7], "adapter": [0.3, 0.4, 0.4, 0.6]}
    measured = tools._replace(measure_loss=lambda arm: HeldOut(np.array(losses[arm.name]), captions))
    report = evaluate(make_inputs(), measured)
    assert [arm.held_out_loss for arm in report.arms[:2]] == [pytest.approx(0.55), pytest.approx(0.425)]
    (comparison,) = report.comparisons
    assert comparison.held_out_loss.mean == pytest.approx(-0.125)
    assert comparison.held_out_loss.num_clusters == 3


def blank_first(draw: Draw) -> Draw:
    def spoilt(drawings) -> Iterator[Image.Image]:
        for number, image in enumerate(draw(drawings)):
            yield Image.new("RGB", image.size) if number < 2 else image

    return spoilt


def test_blank_pictures_are_drawn_again_in_fp32_and_told(make_inputs: MakeInputs, boxes: Draw) -> None:
    asked: list[str] = []

    def precisely(arm: Arm) -> Draw:
        asked.append(arm.name)
        return boxes

    tools = Tools(lambda arm: blank_first(boxes) if arm.name == "adapter" else boxes, precisely)
    inputs = make_inputs(dtype="fp16")
    report = evaluate(inputs, tools)
    assert asked == ["adapter"]
    assert report.comparisons[0].identical, "what was drawn again is what the base drew"
    assert report.notes == ("2 of 16 pictures of adapter were drawn again in fp32",)
    again = evaluate(make_inputs(dtype="fp16", spec={"confidence_level": 0.9}), tools)
    assert again.notes == report.notes
    assert asked == ["adapter"], "and not another time"


def test_what_stays_blank_leaves_the_night_without_a_verdict(make_inputs: MakeInputs, boxes: Draw) -> None:
    def draw(arm: Arm) -> Draw:
        return blank_first(boxes) if arm.name == "adapter" else boxes

    report = evaluate(make_inputs(dtype="fp16"), Tools(draw, draw))
    assert report.undecided == "pictures are blank, in fp32 as well: 2 of 16 by adapter (0000.png, 0001.png)"
    assert report.num_blank == {"adapter": 2}
    assert not decide(report, GateSpec(), None, "base").promote


def test_a_score_that_is_not_finite_stops_the_verdict(
    make_inputs: MakeInputs, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoes.evaluation import features

    embed = features.embed_files

    def broken(encoder, paths, **options):
        vectors = embed(encoder, paths, **options)
        vectors[3, 0] = np.nan
        return vectors

    monkeypatch.setattr(features, "embed_files", broken)
    with pytest.raises(EvaluationError, match="scores are not finite"):
        evaluate(make_inputs(), tools)


def _dino(path: Path) -> JudgeModel:
    return JudgeModel("tiny dino", path, "dino")
