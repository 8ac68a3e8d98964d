import io
from collections import Counter
from collections.abc import Callable

import pytest
from PIL import Image

from shoes.dataset.groups import look, near_duplicates
from shoes.dataset.photos import square
from shoes.dataset.splits import RARE, SPLITS, assign, strata, subset
from shoes.spec import DataSpec

Draw = Callable[..., Image.Image]


def _compressed(photo: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


def test_one_photo_in_other_forms_is_one_group(draw: Draw) -> None:
    photo = draw(7, (112, 80))
    forms = [
        photo,
        _compressed(photo),
        photo.resize((56, 40), Image.Resampling.LANCZOS),
        photo.point(lambda level: int(level * 0.97)),
        draw(8, (112, 80)),
        draw(9, (112, 80)),
    ]
    labels = near_duplicates([look(square(form, 64)) for form in forms], 4)
    assert len(set(labels[:4])) == 1
    assert len(set(labels)) == 3


def test_likeness_goes_on_over_a_third_photo(draw: Draw) -> None:
    """Groups are connected: the first and the last are one although they differ too much by themselves."""
    white = Image.new("RGB", (64, 64), "white")
    looks = [look(Image.blend(draw(1, (64, 64)), white, share)) for share in (0, 0.06, 0.12)]
    assert near_duplicates([looks[0], looks[2]], 4) == [0, 1]
    assert near_duplicates(looks, 4) == [0, 0, 0]


def test_the_same_outline_in_another_colour_is_another_product() -> None:
    """The hash alone takes them for one: it is why thumbnails are compared too."""
    photos = []
    for colour in ("#202020", "#b03020"):
        photo = Image.new("RGB", (64, 64), "white")
        photo.paste(colour, (8, 30, 56, 44))
        photos.append(look(photo))
    assert (photos[0].phash ^ photos[1].phash).bit_count() <= 4
    assert near_duplicates(photos, 4) == [0, 1]


def test_no_photos_and_blank_photos() -> None:
    assert near_duplicates([], 4) == []
    assert near_duplicates([look(Image.new("RGB", (32, 32), "white"))] * 2, 4) == [0, 0]


def _colours(**numbers: int) -> dict[str, str]:
    return {f"{colour}{n}": colour for colour, number in numbers.items() for n in range(number)}


@pytest.mark.parametrize("seed", range(5))
def test_every_stratum_is_divided_as_asked_and_so_is_the_whole(seed: int) -> None:
    colours = _colours(black=173, brown=113, white=86, blue=48, grey=42, red=23, tan=10, pink=8, gold=2, taupe=1)
    stratum_of = strata(colours, 10)
    placed = assign([[name] for name in colours], stratum_of, DataSpec(seed=seed))
    totals = Counter(placed.values())
    shares = dict(zip(SPLITS, (0.7, 0.15, 0.15), strict=True))
    sizes = Counter(stratum_of.values())
    assert sizes[RARE] == 11
    for split, share in shares.items():
        assert abs(totals[split] - share * len(colours)) <= 1
        for stratum, size in sizes.items():
            found = sum(placed[name] == split for name in colours if stratum_of[name] == stratum)
            assert abs(found - share * size) <= 2, (stratum, split)


def test_groups_are_never_divided_and_large_ones_are_made_up_for() -> None:
    colours = _colours(black=60, white=60)
    names = sorted(colours)
    groups = [names[:22], names[60:65], *([name] for name in [*names[22:60], *names[65:]])]
    placed = assign(groups, colours, DataSpec())
    assert all(len({placed[name] for name in group}) == 1 for group in groups)
    totals = Counter(placed.values())
    assert abs(totals["train"] - 84) <= 2
    assert abs(totals["val"] - 18) <= 2


def test_the_split_depends_on_the_seed_and_on_no_order() -> None:
    colours = _colours(black=30, white=30)
    one = assign([[name] for name in colours], colours, DataSpec())
    other = assign([[name] for name in reversed(list(colours))], colours, DataSpec())
    assert one == other
    assert one != assign([[name] for name in colours], colours, DataSpec(seed=1))


def test_a_subset_has_the_size_and_the_shares() -> None:
    colours = _colours(black=100, white=40, red=20)
    chosen = subset(list(colours), colours, 16, seed=3)
    assert Counter(colours[name] for name in chosen) == {"black": 10, "white": 4, "red": 2}
    assert sorted(subset(list(colours), colours, 999, seed=3)) == sorted(colours)
