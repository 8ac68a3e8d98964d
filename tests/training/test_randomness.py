"""What a step sees is a function of (seed, step) alone."""

import math
from collections import Counter

import pytest
import torch

from shoes.spec import TrainSpec
from shoes.training import randomness
from shoes.training.randomness import StepDraws, derive_seed, draw_step, sample_order

EVERYTHING = {"timestep_sampling": "stratified", "noise_offset": 0.1, "caption_dropout": 0.5, "random_flip": True}
DRAWN_BY = {
    "noise": "noise_offset",
    "timesteps": "timestep_sampling",
    "drops_caption": "caption_dropout",
    "flips": "random_flip",
    "posterior_noise": None,
}


def draws(seed: int, step: int, side: int = 8, batch: int = 6, **options: object) -> StepDraws:
    spec = TrainSpec(seed=seed, train_batch_size=batch, gradient_accumulation_steps=1, **options)
    return draw_step(spec, step, latent_shape=(4, side, side), num_timesteps=1000)


def test_the_same_seed_and_step_draw_the_same() -> None:
    torch.manual_seed(1)
    first = draws(3, 5, **EVERYTHING)
    torch.manual_seed(2)
    torch.randn(10)
    again = draws(3, 5, **EVERYTHING)
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in DRAWN_BY)


def test_other_steps_and_seeds_draw_something_else() -> None:
    first = draws(3, 5, batch=32, **EVERYTHING)
    for other in (draws(3, 6, batch=32, **EVERYTHING), draws(4, 5, batch=32, **EVERYTHING)):
        assert not any(torch.equal(getattr(first, name), getattr(other, name)) for name in DRAWN_BY)
    assert not torch.equal(first.noise, first.posterior_noise)


def test_the_draws_are_what_they_have_always_been() -> None:
    """Written down before any option but caption dropout was there: checkpoints of that time go on as they began."""
    found = draws(3, 5, side=2, caption_dropout=0.5)
    assert found.noise.flatten()[:4].tolist() == [
        0.17538726329803467,
        -0.0074058715254068375,
        -0.4974850118160248,
        0.5421936511993408,
    ]
    assert found.posterior_noise.flatten()[:3].tolist() == [
        1.7440017461776733,
        -0.9305723905563354,
        -0.21538271009922028,
    ]
    assert found.timesteps.tolist() == [995, 148, 479, 647, 351, 143]
    assert found.drops_caption.tolist() == [True, False, True, False, True, False]
    assert not found.flips.any()
    assert sample_order(7, 2, batch=8, num_samples=10) == [3, 9, 6, 0, 4, 3, 5, 0]


@pytest.mark.parametrize("option", EVERYTHING)
def test_an_option_changes_its_own_draws_and_no_others(option: str) -> None:
    without, with_it = draws(3, 5, batch=16), draws(3, 5, batch=16, **{option: EVERYTHING[option]})
    for name, drawn_by in DRAWN_BY.items():
        assert torch.equal(getattr(without, name), getattr(with_it, name)) == (drawn_by != option), name


def test_every_draw_has_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def recorded(*purpose: object) -> torch.Generator:
        used.append(purpose)
        return torch.Generator().manual_seed(derive_seed(*purpose))

    monkeypatch.setattr(randomness, "generator", recorded)
    draws(3, 5, **EVERYTHING)
    assert len(set(used)) == len(used) == 6  # one more than there are draws: the offset is in the noise


def test_offset_noise_moves_whole_channels() -> None:
    moved = (draws(3, 5, noise_offset=0.1).noise - draws(3, 5).noise).flatten(2)
    assert torch.allclose(moved, moved[..., :1].expand_as(moved), atol=1e-6), "one number for each channel"
    offsets = torch.cat([draws(3, n, 1, noise_offset=0.1).noise - draws(3, n, 1).noise for n in range(400)])
    assert offsets.std().item() == pytest.approx(0.1, rel=0.05)
    assert offsets.mean().item() == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_stratified_timesteps_are_one_from_each_part(batch: int) -> None:
    orders = set()
    for step in range(50):
        found = draws(3, step, 1, batch, timestep_sampling="stratified").timesteps
        assert found.dtype == torch.int64
        orders.add(tuple(found.argsort().tolist()))
        for part, t in enumerate(sorted(found.tolist())):
            assert math.floor(part * 1000 / batch) <= t < math.ceil((part + 1) * 1000 / batch)
    assert len(orders) == min(50, math.factorial(batch))


def test_stratified_timesteps_are_uniform_for_every_sample() -> None:
    """Every place in the batch sees every part of the schedule alike, so that no photo is tied to some noise levels."""
    seen = torch.stack([draws(3, step, 1, 4, timestep_sampling="stratified").timesteps for step in range(4000)])
    for place in range(4):
        counts = torch.bincount(seen[:, place] // 100, minlength=10)
        assert counts.sum() == 4000
        assert counts.min() > 320  # 400 expected, standard deviation 19
        assert counts.max() < 480


def test_the_last_part_ends_with_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number so near to 1 that it is rounded up with its part does not leave the schedule."""
    largest = 1 - 2**-53
    monkeypatch.setattr(torch, "rand", lambda *_, **options: torch.full((6,), largest, dtype=options.get("dtype")))
    assert draws(3, 5, timestep_sampling="stratified").timesteps.max() == 999


def test_half_of_the_photos_are_mirrored() -> None:
    flips = torch.cat([draws(3, step, 1, 16, random_flip=True).flips for step in range(200)])
    assert flips.dtype == torch.bool
    assert 0.46 < flips.float().mean() < 0.54  # standard deviation 0.009


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draws(1, 1, **EVERYTHING)
    assert torch.equal(before, torch.get_rng_state())


def test_every_sample_is_seen_once_an_epoch_in_another_order() -> None:
    seen = [index for step in range(21) for index in sample_order(7, step, batch=4, num_samples=28)]
    epochs = [seen[0:28], seen[28:56], seen[56:84]]
    assert all(Counter(epoch) == Counter(range(28)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_cross_epochs_and_may_be_larger_than_the_data() -> None:
    seen = [index for step in range(5) for index in sample_order(7, step, batch=10, num_samples=4)]
    assert Counter(seen[:48]) == Counter({0: 12, 1: 12, 2: 12, 3: 12})


def test_an_epoch_is_put_in_order_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every step: that would take longer, the larger the data set."""
    sorts = []
    randomness._permutation.cache_clear()
    monkeypatch.setattr(randomness, "derive_seed", lambda *purpose: sorts.append(purpose) or 1)
    for step in range(8):
        sample_order(7, step, batch=4, num_samples=16)
    assert sorts == [(7, "order", 0), (7, "order", 1)]
    randomness._permutation.cache_clear()


def test_seeds_of_purposes_differ() -> None:
    seeds = {derive_seed(seed, name, step) for seed in range(5) for name in "ab" for step in range(5)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**63 for seed in seeds)
