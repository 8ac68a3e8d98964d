import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoes import storage
from shoes.errors import EvaluationError
from shoes.evaluation.arms import Tools
from shoes.evaluation.inputs import Adapter, Arm, EvaluationInputs, JudgeModel, Judges, Photos
from shoes.evaluation.pictures import Draw
from shoes.evaluation.scores import shuffle_captions
from shoes.evaluation.suite import evaluate
from shoes.reports import EvaluationReport
from shoes.spec import EvalSpec, GateSpec

MakeInputs = Callable[..., EvaluationInputs]


class Arms:
    """Gives each arm its way of drawing, and remembers which were asked for."""

    def __init__(self, **draws: Draw) -> None:
        self.draws, self.asked = draws, list[str]()

    def __call__(self, arm: Arm) -> Draw:
        self.asked.append(arm.name)
        return self.draws[arm.name]


@pytest.fixture
def arms(boxes: Draw, grey_boxes: Draw) -> Arms:
    return Arms(base=grey_boxes, adapter=boxes, champion=boxes)


def test_an_adapter_that_draws_what_is_asked_for_is_better(make_inputs: MakeInputs, arms: Arms) -> None:
    inputs = make_inputs()
    report = evaluate(inputs, Tools(arms))
    assert [arm.name for arm in report.arms] == ["base", "adapter", "real", "shuffled", "train"]
    assert [arm.num_images for arm in report.arms] == [16, 16, 16, 16, 12]
    (comparison,) = report.comparisons
    assert comparison.against == "base"
    assert comparison.is_better
    assert not comparison.identical
    assert comparison.clip_image_similarity.low > 0
    assert (comparison.clip_score.num_clusters, comparison.clip_score.num_values) == (8, 16)
    base, adapter, real, shuffled, train = report.arms
    assert comparison.clip_score.mean == pytest.approx(adapter.clip_score_interval.mean - base.clip_score_interval.mean)
    assert real.clip_score_interval.mean > shuffled.clip_score_interval.mean
    assert real.clip_image_similarity is None
    assert adapter.clip_image_similarity is not None
    assert adapter.cmmd.value < base.cmmd.value
    assert comparison.cmmd.value + 2 * comparison.cmmd.standard_error < 0, "nearer to the photos than the grey boxes"
    assert abs(train.cmmd.value) < base.cmmd.value
    assert train.clip_score is None


def test_what_is_on_disk_is_whole_and_agrees_with_the_report(make_inputs: MakeInputs, arms: Arms) -> None:
    report = evaluate(make_inputs(), Tools(arms))
    assert storage.is_whole(report.path)
    assert report.path.name == report.fingerprint
    assert sorted(p.name for p in report.path.iterdir()) == [
        "evaluation.json",
        "gallery",
        "grid.png",
        "manifest.json",
        "pairs",
        "scores.jsonl",
    ]
    rows = [json.loads(line) for line in report.scores.read_text().splitlines()]
    assert len(rows) == 64
    by_arm = {arm.name: [100 * r["cosine"] for r in rows if r["arm"] == arm.name] for arm in report.arms}
    for arm in report.arms[:4]:
        assert np.mean(by_arm[arm.name]) == pytest.approx(arm.clip_score_interval.mean)
        assert np.mean(np.maximum(by_arm[arm.name], 0)) == pytest.approx(arm.clip_score)
    assert all(r["caption"] != r["scored_caption"] for r in rows if r["arm"] == "shuffled")
    with Image.open(report.grid) as grid:
        assert grid.width > 3 * 128


def test_the_second_time_nothing_is_drawn_nor_scored(
    make_inputs: MakeInputs, arms: Arms, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(make_inputs(), Tools(arms))
    monkeypatch.setattr("shoes.evaluation.features.load_clip", pytest.fail)
    assert evaluate(make_inputs(), Tools(arms)) == first
    assert arms.asked == ["base", "adapter"]


def test_a_damaged_result_is_made_again_from_the_same_pictures(make_inputs: MakeInputs, arms: Arms) -> None:
    first = evaluate(make_inputs(), Tools(arms))
    scores = first.scores.read_bytes()
    first.scores.write_bytes(b"")
    second = evaluate(make_inputs(), Tools(arms))
    assert second.scores.read_bytes() == scores
    assert second.model_copy(update={"seconds": first.seconds}) == first
    assert arms.asked == ["base", "adapter"]


def test_a_report_of_another_version_is_made_again(make_inputs: MakeInputs, arms: Arms) -> None:
    first = evaluate(make_inputs(), Tools(arms))
    with storage.new_folder(first.path) as folder:
        (folder / "evaluation.json").write_text('{"of": "old"}')
    assert evaluate(make_inputs(), Tools(arms)).comparisons == first.comparisons


def test_a_moved_result_says_where_it_is_now(make_inputs: MakeInputs, arms: Arms, tmp_path: Path) -> None:
    evaluate(make_inputs(), Tools(arms))
    (tmp_path / "evaluations").rename(tmp_path / "elsewhere")
    report = evaluate(make_inputs(out_dir=tmp_path / "elsewhere"), Tools(arms))
    assert report.grid.is_file()
    assert report.scores.parent == report.path == tmp_path / "elsewhere" / report.fingerprint


def test_base_and_champion_cost_nothing_the_next_night(make_inputs: MakeInputs, arms: Arms) -> None:
    yesterday = Adapter(Path("yesterday"), "hash of yesterday")
    evaluate(make_inputs(adapter=yesterday), Tools(arms))
    arms.asked.clear()
    report = evaluate(make_inputs(champion=yesterday), Tools(arms))
    assert arms.asked == ["adapter"]
    assert [c.against for c in report.comparisons] == ["base", "champion"]
    assert [arm.name for arm in report.arms] == ["base", "adapter", "champion", "real", "shuffled", "train"]


def test_two_arms_with_the_same_pictures_do_not_differ(make_inputs: MakeInputs, arms: Arms) -> None:
    report = evaluate(make_inputs(champion=Adapter(Path("c"), "champion-hash")), Tools(arms))
    base, champion = report.comparisons
    assert champion.identical
    assert not champion.is_better
    assert champion.clip_score.low == champion.clip_score.mean == champion.clip_score.high == 0
    assert not base.identical


def test_one_different_picture_is_a_difference(make_inputs: MakeInputs, arms: Arms, boxes: Draw) -> None:
    def nearly(drawings) -> Iterator[Image.Image]:
        for number, image in enumerate(boxes(drawings)):
            if number == 7:
                image.putpixel((0, 0), (249, 250, 250))
            yield image

    arms.draws["champion"] = nearly
    report = evaluate(make_inputs(champion=Adapter(Path("c"), "champion-hash")), Tools(arms))
    assert [comparison.identical for comparison in report.comparisons] == [False, False]


def test_all_that_decides_the_result_is_in_its_fingerprint(make_inputs: MakeInputs) -> None:
    other = Adapter(Path("other"), "other")
    changes = [
        {},
        {"test": Photos([], "x")},
        {"training": Photos([], "x")},
        {"validation": Photos([], "x")},
        {"model_fingerprint": "x"},
    ]
    clip, other_clip = (JudgeModel("clip", Path("clip"), name) for name in ("clip", "other"))
    changes += [{"judges": Judges(other_clip)}, {"judges": Judges(clip, dino=clip)}, {"left_out": ("DINOv2",)}]
    changes += [{"judges": Judges(JudgeModel("clip", Path("clip"), "clip", "a stand-in"))}]
    changes += [{"gate": GateSpec(max_memorisation_z=4)}]
    changes += [{"adapter": other}, {"champion": other}, {"resolution": 128}, {"device": "mps"}]
    changes += [{"dtype": "bfloat16"}, {"spec": {"seed": 5}}, {"spec": {"confidence_level": 0.9}}]
    names = [make_inputs(**change).fingerprint for change in changes]
    assert len(set(names)) == len(names)
    same = [{"batch_size": 3}, {"out_dir": Path("x")}, {"cache_dir": Path("x")}, {"device": "cpu:0"}]
    assert {make_inputs(**change).fingerprint for change in same} == {names[0]}


def test_progress_counts_over_all_arms(make_inputs: MakeInputs, arms: Arms) -> None:
    told: list[tuple[int, int, str]] = []
    evaluate(make_inputs(), Tools(arms), lambda done, total, note="": told.append((done, total, note)))
    assert told == [*((n, 32, "base") for n in range(17)), *((n, 32, "adapter") for n in range(16, 33))]


def test_missing_pictures_of_all_arms_stop_the_evaluation_together(
    make_inputs: MakeInputs, boxes: Draw, tmp_path: Path
) -> None:
    arms = Arms(base=lambda drawings: boxes(drawings[:-1]), adapter=lambda drawings: boxes(drawings[:-2]))
    with pytest.raises(EvaluationError) as caught:
        evaluate(make_inputs(), Tools(arms))
    assert [problem.where for problem in caught.value.problems] == ["base", "adapter"]
    assert "1 of 16 pictures are missing or damaged: 0015.png" in str(caught.value)
    assert "2 of 16 pictures are missing or damaged: 0014.png, 0015.png" in str(caught.value)
    assert not (tmp_path / "evaluations").exists()


def test_photos_under_wrong_captions_leave_the_night_without_a_verdict(
    make_inputs: MakeInputs, arms: Arms, photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The captions are shuffled back to the right ones, so that the floor is above the ceiling."""
    right = {photo.caption: photo.caption for photo in photos}
    wrong = shuffle_captions(list(right), seed=EvalSpec().seed)
    mixed = [type(photo)(photo.image, wrong[photo.caption]) for photo in photos]
    back = {given: own for own, given in wrong.items()}
    monkeypatch.setattr("shoes.evaluation.scores.shuffle_captions", lambda captions, seed: back)
    report = evaluate(make_inputs(test=Photos(mixed, "mixed")), Tools(arms))
    assert "photos match their own captions" in report.undecided


ONE = "A product photo of red casual shoes"


def alike(photos, number: int, caption: str | None = None) -> Photos:
    """So many photos, of one caption or of up to eight different ones."""
    given = [type(photo)(photo.image, caption or photo.caption) for photo in photos[:number]]
    return Photos(given, f"{number} {caption}")


def small(make_inputs: MakeInputs, photos, number: int, caption: str | None, repeat: int) -> EvaluationInputs:
    """All splits of so many photos each."""
    names = ("test", "training", "validation")
    splits = {name: alike(photos, number, caption) for name in names}
    if caption is None:
        splits["training"] = alike(photos, 16)
    return make_inputs(**splits, spec={"images_per_caption": repeat})


@pytest.mark.parametrize(
    ("photos_of", "expected"),
    [
        ((1, ONE, 1), ("picture", 1)),
        ((2, ONE, 1), ("picture", 2)),
        ((2, ONE, 2), ("picture", 4)),
        ((2, ONE, 4), ("picture", 8)),
        ((1, None, 4), ("caption", 1)),
        ((2, None, 4), ("caption", 2)),
        ((4, None, 1), ("caption", 4)),
        ((8, None, 1), ("caption", 8)),
    ],
)
def test_few_photos_have_wide_intervals_or_none_with_the_reason(
    make_inputs: MakeInputs,
    arms: Arms,
    photos,
    photos_of: tuple[int, str | None, int],
    expected: tuple[str, int],
) -> None:
    """Test photos of one caption or of several, with so many pictures each; what is resampled, and how many."""
    (number, caption, repeat), (unit, units) = photos_of, expected
    report = evaluate(small(make_inputs, photos, number, caption, repeat), Tools(arms))
    (comparison,) = report.comparisons
    found = comparison.clip_score
    if units < 3:
        assert (found, report.arms[0].clip_score_interval) == (None, None)
        assert f"{units} {unit}" in report.undecided
        assert not comparison.is_better
    else:
        assert (found.unit, found.num_clusters, report.undecided) == (unit, units, "")
        assert (f"over only {units} {unit}s" in str(found)) == (units < 6)
        assert found.low < found.mean < found.high
    assert (comparison.clip_image_similarity is None) == (number < 3)
    assert (comparison.cmmd is None) == (number < 6)
    assert any("no distances" in note for note in report.notes) == (number < 6)
    floor = "shuffled" if caption is None and number > 1 else "unrelated"
    assert [arm.name for arm in report.arms] == ["base", "adapter", "real", floor, "train"]
    assert (report.memorisation is None) == (number * repeat < 2)
    assert len(report.gallery) == (min(4, number * repeat) if units < 4 or caption else units)
    assert "nan" not in (report.path / "evaluation.json").read_text().lower()


def test_a_few_captions_of_which_all_are_drawn_have_pictures_as_units(
    make_inputs: MakeInputs, arms: Arms, photos
) -> None:
    chosen = Photos([photo for number, photo in enumerate(photos) if number % 8 < 3], "three captions")
    inputs = make_inputs(test=chosen, training=chosen, validation=chosen)
    (comparison,) = evaluate(inputs, Tools(arms)).comparisons
    assert (comparison.clip_score.unit, comparison.clip_score.num_clusters) == ("picture", 6)
    assert (comparison.clip_image_similarity.unit, comparison.cmmd is not None) == ("photo", True)


@pytest.mark.parametrize("count", [2, 3, 20])
def test_shuffled_captions_are_never_ones_own(count: int) -> None:
    captions = [f"caption {n}" for n in range(count)]
    for seed in range(20):
        given = shuffle_captions(captions * 2, seed)
        assert sorted(given) == sorted(given.values()) == sorted(captions)
        assert all(own != other for own, other in given.items())
    with pytest.raises(ValueError, match="two different"):
        shuffle_captions(["same", "same"], 0)


def test_the_real_base_model_draws_and_is_scored(make_inputs: MakeInputs, diffusion_path: Path) -> None:
    """Both arms are the real tiny Stable Diffusion without an adapter: no difference, and said so."""
    import torch

    from shoes.model.load import load_pipeline
    from shoes.sampling import draw

    inputs = make_inputs(spec={"num_images": 4, "num_inference_steps": 4}, adapter=Adapter(Path("none"), "same"))

    def draw_arm(arm: Arm) -> Draw:
        pipeline = load_pipeline(diffusion_path, device="cpu", dtype=torch.float32, scheduler="ddim")
        return partial(
            draw,
            pipeline,
            num_inference_steps=4,
            guidance_scale=4.0,
            resolution=inputs.resolution,
            batch_size=2,
        )

    report = evaluate(inputs, Tools(draw_arm))
    (comparison,) = report.comparisons
    assert comparison.identical
    assert not comparison.is_better
    kept = EvaluationReport.model_validate_json((report.path / "evaluation.json").read_bytes())
    assert kept.comparisons == report.comparisons
    assert kept.grid == Path("grid.png"), "paths on disk are relative, so that a folder may be moved"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, shoes.evaluation.suite, shoes.evaluation.grid; "
        "heavy = {'torch', 'transformers', 'scipy', 'PIL', 'diffusers'} & set(sys.modules); "
        "print(sorted(heavy))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr
