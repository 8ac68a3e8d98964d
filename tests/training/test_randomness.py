"""What a step sees is a function of (seed, step) alone."""

from collections import Counter

import torch

from shoes.training.randomness import derive_seed, draw_step, sample_order


def draws(seed: int, step: int, dropout: float = 0.0):
    return draw_step(seed, step, latent_shape=(4, 8, 8), batch=6, num_timesteps=1000, caption_dropout=dropout)


def test_the_same_seed_and_step_draw_the_same() -> None:
    torch.manual_seed(1)
    first = draws(3, 5)
    torch.manual_seed(2)
    torch.randn(10)
    again = draws(3, 5)
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.posterior_noise, again.posterior_noise)
    assert torch.equal(first.timesteps, again.timesteps)


def test_other_steps_and_seeds_draw_something_else() -> None:
    first = draws(3, 5)
    for other in (draws(3, 6), draws(4, 5)):
        assert not torch.equal(first.noise, other.noise)
    assert not torch.equal(first.noise, first.posterior_noise)


def test_an_option_does_not_shift_the_others() -> None:
    without, with_dropout = draws(3, 5), draws(3, 5, dropout=0.5)
    assert torch.equal(without.noise, with_dropout.noise)
    assert torch.equal(without.timesteps, with_dropout.timesteps)
    assert not without.drops_caption.any()


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draws(1, 1)
    assert torch.equal(before, torch.get_rng_state())


def test_every_sample_is_seen_once_an_epoch_in_another_order() -> None:
    seen = [index for step in range(21) for index in sample_order(7, step, batch=4, num_samples=28)]
    epochs = [seen[0:28], seen[28:56], seen[56:84]]
    assert all(Counter(epoch) == Counter(range(28)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_cross_epochs_and_may_be_larger_than_the_data() -> None:
    seen = [index for step in range(5) for index in sample_order(7, step, batch=10, num_samples=4)]
    assert Counter(seen[:48]) == Counter({0: 12, 1: 12, 2: 12, 3: 12})


def test_seeds_of_purposes_differ() -> None:
    seeds = {derive_seed(seed, name, step) for seed in range(5) for name in "ab" for step in range(5)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**63 for seed in seeds)
