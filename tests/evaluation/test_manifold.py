import numpy as np
import pytest

from shoes.evaluation.manifold import density_coverage, equal_samples, manifold, vendi


def units(seed: int, num: int, width: int, centre: float = 0.0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num, width)) + centre
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("num_real", "num_drawn", "k"), [(120, 90, 5), (40, 150, 3), (60, 60, 1)])
@pytest.mark.parametrize("centre", [0.0, 0.4])
def test_as_the_published_package_counts_them(num_real: int, num_drawn: int, k: int, centre: float, capsys) -> None:
    prdc = pytest.importorskip("prdc")
    real, drawn = units(1, num_real, 8), units(2, num_drawn, 8, centre)
    expected = prdc.compute_prdc(real, drawn, nearest_k=k)
    found = manifold(real, drawn, k)
    assert 0 < found.coverage < 1
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-6), name
    assert density_coverage(real, drawn, k) == (found.density, found.coverage)


def test_one_picture_again_and_again_covers_little() -> None:
    real = units(1, 100, 8)
    found = manifold(real, np.repeat(real[:1], 20, axis=0))
    assert found.precision == 1
    assert found.coverage < 0.2


@pytest.mark.parametrize(("num", "width"), [(30, 64), (80, 16)])
def test_vendi_as_the_published_package_counts_it(num: int, width: int) -> None:
    package = pytest.importorskip("vendi_score.vendi")
    features = units(3, num, width, 0.3)
    assert vendi(features) == pytest.approx(package.score_dual(features), abs=1e-6)
    assert vendi(features) == pytest.approx(package.score(list(features), lambda a, b: float(a @ b)), abs=1e-6)


def test_vendi_counts_kinds() -> None:
    assert vendi(np.repeat(np.eye(4), 5, axis=0)) == pytest.approx(4)
    assert vendi(np.repeat(np.eye(4)[:1], 5, axis=0)) == pytest.approx(1)


def test_equal_samples_are_as_large_as_the_smallest() -> None:
    first, second, third, again = equal_samples([10, 7, 300, 300], seed=3)
    assert len(first) == len(second) == len(third) == 7
    assert second == list(range(7))
    assert third == again, "paired arms stay paired"
    for chosen, size in ((first, 10), (third, 300)):
        assert sorted(set(chosen)) == chosen
        assert max(chosen) < size
    assert equal_samples([300, 7], seed=3)[0] == third
    assert equal_samples([300, 7], seed=4)[0] != third


@pytest.mark.parametrize("sizes", [[], [3, 0]])
def test_nothing_cannot_be_sampled(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        equal_samples(sizes, seed=1)


@pytest.mark.parametrize("k", [0, 5, 6])
def test_neighbours_must_be_there(k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} neighbours need more than {k}"):
        manifold(units(1, 9, 4), units(2, 5, 4), k)


def test_other_shapes_say_so() -> None:
    with pytest.raises(ValueError, match="8 and of 4 dimensions"):
        manifold(units(1, 9, 8), units(2, 9, 4))
    with pytest.raises(ValueError, match="features: 5 of 5 vectors are not of length one"):
        vendi(2 * units(1, 5, 4))
