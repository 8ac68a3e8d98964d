from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from shoes.evaluation.drawings import choose_records, drawing_seed, plan_drawings
from shoes.spec import EvalSpec


@dataclass(frozen=True)
class Photo:
    image: Path
    caption: str
    attributes: dict[str, str] = field(default_factory=dict)


def photos(counts: dict[str, int]) -> list[Photo]:
    return [Photo(Path(f"{c}{n}.png"), f"{c} shoes") for c, number in counts.items() for n in range(number)]


def test_every_drawing_has_a_seed_of_its_own() -> None:
    records = photos({"black": 300, "red": 100})
    spec = EvalSpec(images_per_caption=4)
    drawings = plan_drawings(records, spec)
    assert len(drawings) == 1600
    assert len({drawing.seed for drawing in drawings}) == 1600
    assert drawings[0].seed == spec.seed


def test_a_seed_depends_on_nothing_but_the_photo_and_the_repeat() -> None:
    records = photos({"black": 30, "red": 10})
    every = {(d.record, d.seed): d for d in plan_drawings(records, EvalSpec(images_per_caption=3))}
    some = plan_drawings(records, EvalSpec(images_per_caption=2, num_images=5))
    assert len(some) == 10
    assert all(every[drawing.record, drawing.seed] == drawing for drawing in some)
    assert drawing_seed(1234, 0, 1) != drawing_seed(1235, 0, 1)


def test_a_subset_keeps_the_share_of_each_caption() -> None:
    records = photos({"black": 60, "brown": 30, "white": 10})
    chosen = choose_records(records, 20)
    assert chosen == sorted(set(chosen)) == choose_records(records, 20)
    assert Counter(records[i].caption.split()[0] for i in chosen) == {"black": 12, "brown": 6, "white": 2}


def test_a_limit_above_the_split_takes_all() -> None:
    records = photos({"black": 3})
    assert choose_records(records, 10) == choose_records(records, None) == [0, 1, 2]
    assert choose_records(records, 2) != [0, 1]


def test_a_wanted_precision_decides_how_many_are_drawn(photos) -> None:
    from shoes.evaluation.sample_size import plan

    captions = [photo.caption for photo in photos]
    wanted = EvalSpec(num_images=2, images_per_caption=1, half_width=1.5)
    size = plan(captions, 1.5)
    drawings = plan_drawings(photos, wanted)
    assert len(drawings) == size.num_images * size.images_per_caption > 2
    assert len({drawing.seed for drawing in drawings}) == len(drawings)
    assert plan_drawings(photos, wanted.model_copy(update={"half_width": None})) != drawings
