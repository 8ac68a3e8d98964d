"""The picture of the held-out loss by timestep."""

import numpy as np
import pytest

from shoes.evaluation.curve import loss_curve

TIMESTEPS = [62, 187, 312, 437, 562, 687, 812, 937]


def losses(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.01, 0.3, (32, 8))


def dots(base: np.ndarray, now: np.ndarray, step: int = 500) -> list[float]:
    """How far below the base's line each timestep's dot stands, in pixels."""
    pixels = np.asarray(loss_curve(base, now, TIMESTEPS, step)).astype(int)
    blue = (pixels[90:312, 118:770, 2] - pixels[90:312, 118:770, 0]) > 100
    columns = np.array_split(blue, 8, axis=1)
    centres = [column[:, column.shape[1] // 2 - 3 : column.shape[1] // 2 + 4] for column in columns]
    return [float(np.argwhere(centre.sum(1) >= 6)[:, 0].mean()) + 90 - 201 for centre in centres]


def test_what_is_better_stands_lower_and_what_is_worse_higher() -> None:
    base = losses()
    change = np.array([-0.04, -0.03, -0.02, -0.01, 0.01, 0.02, 0.03, 0.04])
    found = dots(base, base * (1 + change))
    assert np.sign(found).tolist() == [1, 1, 1, 1, -1, -1, -1, -1]
    assert found == pytest.approx([84, 63, 42, 21, -21, -42, -63, -84], abs=4), "the axis goes to 5 %"


def test_the_base_beside_itself_is_a_flat_line() -> None:
    assert dots(losses(), losses(), 0) == pytest.approx([0] * 8, abs=0.6)


def test_the_picture_has_one_size_and_margins() -> None:
    pictures = [loss_curve(losses(), losses(seed) * 10**seed, TIMESTEPS, 10**seed) for seed in (0, 1, 4)]
    assert len({picture.size for picture in pictures}) == 1
    for picture in pictures:
        pixels = np.asarray(picture)
        for edge in (pixels[:12], pixels[-8:], pixels[:, :12], pixels[:, -12:]):
            assert (edge == 255).all()
