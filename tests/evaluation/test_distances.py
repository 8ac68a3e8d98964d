import numpy as np
import pytest

from shoes.evaluation.distances import cmmd, cmmd_difference


def units(rng: np.random.Generator, num: int, width: int = 16, shift: float = 0.0) -> np.ndarray:
    vectors = rng.normal(size=(num, width)) + shift * np.eye(width)[0]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(drawn, real, drawn_captions=None, real_captions=None) -> float:
    """The definition, pair by pair; with captions only pairs of different ones count."""

    def mean(x, y, skip):
        values = [
            np.exp(-((a - b) ** 2).sum() / 200) for i, a in enumerate(x) for j, b in enumerate(y) if not skip(i, j)
        ]
        return np.mean(values)

    if drawn_captions is None:
        return 1000 * (
            mean(drawn, drawn, int.__eq__) + mean(real, real, int.__eq__) - 2 * mean(drawn, real, lambda i, j: False)
        )
    d, r = drawn_captions, real_captions
    return 1000 * (
        mean(drawn, drawn, lambda i, j: d[i] == d[j])
        + mean(real, real, lambda i, j: r[i] == r[j])
        - 2 * mean(drawn, real, lambda i, j: d[i] == r[j])
    )


def jackknife(values) -> float:
    num = len(values)
    return float(np.sqrt((num - 1) / num * ((values - np.mean(values)) ** 2).sum()))


DRAWN = ["a", "b", "c", "a", "d", "e", "a", "b"]
REAL = ["a", "b", "b", "c", "d", "f", "a"]


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return units(rng, 8, shift=2), units(rng, 8, shift=1), units(rng, 7)


def without(values, captions, left_out):
    kept = [i for i, caption in enumerate(captions) if caption != left_out]
    return values[kept], [captions[i] for i in kept]


def test_photos_as_given_by_hand(samples) -> None:
    drawn, _, real = samples
    found = cmmd(drawn, real, DRAWN)
    assert found.value == pytest.approx(by_hand(drawn, real))
    deletions = [by_hand(without(drawn, DRAWN, caption)[0], real) for caption in sorted(set(DRAWN))]
    assert found.standard_error == pytest.approx(jackknife(deletions))


def test_captions_of_both_by_hand(samples) -> None:
    """Captions e and f have pictures or photos only; b has several of both."""
    drawn, _, real = samples
    found = cmmd(drawn, real, DRAWN, real_clusters=REAL)
    assert found.value == pytest.approx(by_hand(drawn, real, DRAWN, REAL))
    deletions = []
    for caption in sorted({*DRAWN, *REAL}):
        (x, of_x), (y, of_y) = without(drawn, DRAWN, caption), without(real, REAL, caption)
        deletions.append(by_hand(x, y, of_x, of_y))
    assert found.standard_error == pytest.approx(jackknife(deletions))


@pytest.mark.parametrize("photos", [None, REAL])
def test_a_difference_leaves_a_caption_out_of_both(samples, photos) -> None:
    first, second, real = samples
    found = cmmd_difference(first, second, real, DRAWN, real_clusters=photos)
    values = []
    for caption in (None, *sorted({*DRAWN, *(photos or [])})):
        (x, of_x), (z, _) = without(first, DRAWN, caption), without(second, DRAWN, caption)
        y, of_y = without(real, photos, caption) if photos else (real, None)
        captions = (of_x, of_y) if photos else ()
        values.append(by_hand(x, y, *captions) - by_hand(z, y, *captions))
    assert found.value == pytest.approx(values[0])
    assert found.standard_error == pytest.approx(jackknife(values[1:]))


def test_a_model_against_itself_is_no_difference(samples) -> None:
    drawn, _, real = samples
    found = cmmd_difference(drawn, drawn, real, DRAWN)
    assert (found.value, found.standard_error) == (0, 0)


def test_blocks_change_nothing(samples, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, _, real = samples
    whole = cmmd(drawn, real, DRAWN, real_clusters=REAL)
    monkeypatch.setattr("shoes.evaluation.distances._ROWS_AT_ONCE", 3)
    parts = cmmd(drawn, real, DRAWN, real_clusters=REAL)
    assert (parts.value, parts.standard_error) == pytest.approx((whole.value, whole.standard_error))


def test_single_precision_as_clip_gives_it(samples) -> None:
    drawn, _, real = (sample.astype(np.float32) for sample in samples)
    assert cmmd(drawn, real, DRAWN).value == pytest.approx(by_hand(*samples[::2]), abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clusters": ["a"] * 8}, "two different captions"),
        ({"clusters": ["a", "b"]}, "clusters: one caption per row is needed, got 2 for 8"),
        ({"real_clusters": ["a"]}, "real_clusters: one caption per row"),
        ({"drawn": np.full((8, 16), np.nan)}, "drawn: 8 of 8 vectors are not finite"),
        ({"drawn": np.ones((8, 16))}, "not of length one"),
        ({"drawn": np.ones(8)}, r"\[images, dimensions\]"),
        ({"drawn": np.eye(8)}, "8 and of 16 dimensions"),
        ({"real": np.eye(16)[:1]}, "too few images"),
        ({"clusters": ["a"] * 7 + ["b"]}, "too few images"),
        ({"clusters": ["a", "b"] * 4, "real_clusters": ["a", "b"] * 3 + ["a"]}, "too few images or captions"),
    ],
)
def test_what_cannot_be_measured_says_why(samples, change, message) -> None:
    given = {"drawn": samples[0], "real": samples[2], "clusters": DRAWN, **change}
    with pytest.raises(ValueError, match=message):
        cmmd(**given)


def test_pairs_must_be_pairs(samples) -> None:
    first, second, real = samples
    with pytest.raises(ValueError, match="pairs are needed"):
        cmmd_difference(first, second[:5], real, DRAWN)
