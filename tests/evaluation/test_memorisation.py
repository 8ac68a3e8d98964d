import numpy as np
import pytest
from scipy.stats import binom, hypergeom, mannwhitneyu, norm

from shoes.evaluation.memorisation import alarm, closest_pairs, is_enough, nearest


def units(seed: int, num: int, width: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosines(seed: int, num: int, centre: float = 0.6) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, 0.05, num)


def test_the_nearest_training_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    images, training = units(1, 10), units(2, 30)
    table = images @ training.T
    for rows in (512, 3):
        monkeypatch.setattr("shoes.evaluation.memorisation._ROWS_AT_ONCE", rows)
        indices, found = nearest(images, training)
        assert indices.tolist() == table.argmax(axis=1).tolist()
        np.testing.assert_allclose(found, table.max(axis=1))


def test_a_training_photo_is_its_own_nearest() -> None:
    training = units(2, 30)
    indices, found = nearest(training[[7, 3]], np.concatenate([training, training]))
    assert indices.tolist() == [7, 3]
    np.testing.assert_allclose(found, 1)
    assert found.max() <= 1


@pytest.mark.parametrize("decimals", [8, 2])
def test_z_is_mann_whitneys_ties_included(decimals: int) -> None:
    drawn, held_out = cosines(1, 80, 0.61).round(decimals), cosines(2, 60).round(decimals)
    p = mannwhitneyu(drawn, held_out, alternative="greater", method="asymptotic", use_continuity=False).pvalue
    assert alarm(drawn, held_out).z == pytest.approx(norm.isf(p))


def test_captions_of_one_image_each_change_little() -> None:
    drawn, held_out = cosines(1, 300, 0.61), cosines(2, 300)
    names = [f"{i}" for i in range(600)]
    found = alarm(drawn, held_out, drawn_clusters=names[:300], held_out_clusters=names[300:])
    assert found.z == pytest.approx(alarm(drawn, held_out).z, rel=0.05)
    assert found.z == alarm(drawn, held_out, drawn_clusters=names[:300]).z


def test_copies_of_a_picture_are_no_news() -> None:
    """Ten pictures five times each know as much as ten, though z of fifty is far above 3."""
    few, held_out = 0.635 + np.linspace(-0.05, 0.05, 10), cosines(4, 200)
    drawn, names = np.repeat(few, 5), np.repeat([f"{i}" for i in range(10)], 5).tolist()
    assert alarm(drawn, held_out).z > 4
    assert alarm(drawn, held_out, drawn_clusters=names).z < 3


def test_the_tail_is_hypergeometric() -> None:
    """5 % of 100 is 5: of the five closest of both, four are drawn."""
    drawn = np.concatenate([np.full(4, 0.99), cosines(1, 96)])
    held_out = np.concatenate([[0.98], cosines(2, 99)])
    found = alarm(drawn, held_out)
    assert found.p_tail == pytest.approx(hypergeom(200, 100, 5).sf(3))
    assert found.threshold == 0.98
    assert (found.share_close, found.share_close_expected) == (0.04, 0.025)
    assert (found.num_drawn, found.num_held_out) == (100, 100)


def test_one_caption_that_is_close_as_a_whole_is_one_piece_of_news() -> None:
    """Twenty captions of twenty pictures; the pictures of one are all of the closest."""
    drawn = cosines(1, 400)
    drawn[:20] = 0.99
    names = np.repeat([f"{i}" for i in range(20)], 20)
    scattered = np.random.default_rng(0).permutation(names).tolist()
    held_out = cosines(2, 400)
    assert alarm(drawn, held_out).p_tail < 1e-5
    assert alarm(drawn, held_out, drawn_clusters=scattered).p_tail < 1e-5
    assert alarm(drawn, held_out, drawn_clusters=names.tolist()).p_tail > 0.4


def test_all_that_are_equal_to_the_last_of_the_closest_count() -> None:
    drawn = np.concatenate([np.full(8, 0.99), cosines(1, 92)])
    held_out = np.concatenate([np.full(6, 0.99), cosines(2, 94)])
    assert alarm(drawn, held_out).p_tail == pytest.approx(hypergeom(200, 100, 14).sf(7))
    same = alarm(np.full(50, 0.9), np.full(50, 0.9))
    assert (same.fires, same.z, same.p_tail) == (False, 0, 1)


def test_a_few_copies_fire_it_by_the_tail() -> None:
    drawn = cosines(1, 400)
    drawn[:20] = 0.99
    found = alarm(drawn, cosines(2, 400))
    assert found.fires
    assert found.z < 3
    assert found.reason.startswith("20 of the 20 images closest to a training photo are drawn ones (p = ")


def test_a_shift_of_all_fires_it_by_z() -> None:
    found = alarm(cosines(1, 400, 0.615), cosines(2, 400))
    assert found.fires
    assert "as a whole are closer" in found.reason


def test_further_away_is_no_alarm() -> None:
    found = alarm(cosines(1, 400, 0.5), cosines(2, 400))
    assert not found.fires
    assert found.z < -3


def test_the_limits_are_the_callers() -> None:
    drawn, held_out = cosines(1, 400, 0.608), cosines(2, 400)
    found = alarm(drawn, held_out)
    assert alarm(drawn, held_out, max_z=found.z - 0.01).fires
    assert not alarm(drawn, held_out, max_z=found.z, min_p=found.p_tail).fires
    assert alarm(drawn, held_out, max_z=9, min_p=min(1.0, found.p_tail + 0.01)).fires


def test_too_few_held_out_photos_are_said() -> None:
    silent = alarm(cosines(1, 400), cosines(2, 40))
    assert not silent.fires
    assert "with so few held-out photos" in silent.reason
    assert "with so few" not in alarm(cosines(1, 400), cosines(2, 400)).reason


def test_z_stays_finite() -> None:
    names = [f"{i}" for i in range(4000)]
    found = alarm(cosines(1, 4000, 0.9), cosines(2, 4000, 0.1), drawn_clusters=names)
    assert found.z > 30
    assert np.isfinite(found.z)


def test_silence_on_few_pictures_proves_little() -> None:
    assert [is_enough(num) for num in (0, 399, 400, 1000)] == [False, False, True, True]


def test_the_closest_pairs_come_first_and_equals_in_order() -> None:
    assert closest_pairs([0.5, 0.9, 0.7, 0.9], [4, 0, 2, 1], count=3) == [(1, 0), (3, 1), (2, 2)]
    assert len(closest_pairs(np.linspace(0, 1, 50), np.arange(50))) == 20
    cosines = np.tile([0.5, 0.9], 100)
    assert closest_pairs(cosines, np.arange(200)) == [(i, i) for i in range(1, 40, 2)]
    with pytest.raises(ValueError, match="one index per cosine"):
        closest_pairs([0.5], [1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drawn": [0.5]}, "drawn: at least two"),
        ({"held_out": [[0.5, 0.1]]}, "held-out: at least two"),
        ({"held_out": [0.5, float("nan")]}, "held-out: 1 of 2 cosines are not finite"),
        ({"drawn_clusters": ["a"]}, "drawn: one caption per cosine is needed, got 1 for 3"),
        ({"drawn_clusters": ["a"] * 3, "held_out_clusters": ["a"] * 2}, "two different captions"),
    ],
)
def test_what_cannot_be_compared_says_why(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        alarm(**{"drawn": [0.5, 0.6, 0.7], "held_out": [0.5, 0.4], **change})


def test_a_threshold_from_held_out_photos_would_cry_wolf() -> None:
    """Why the tail is a test of two samples: 400 pairs of equal samples of 200, both ways."""
    rng = np.random.default_rng(5)
    ours, naive = 0, 0
    for _ in range(400):
        drawn, held_out = rng.normal(size=200), rng.normal(size=200)
        ours += alarm(drawn, held_out).p_tail < 0.001
        above = int((drawn > np.quantile(held_out, 0.995)).sum())
        naive += binom.sf(above - 1, 200, 0.005) < 0.001
    assert ours <= 2
    assert naive > 12
