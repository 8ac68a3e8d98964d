"""What the options do to loss, optimizer and learning rate; off, they do nothing to a single bit."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler

from shoes import stages
from shoes.forecast.plan import plan
from shoes.spec import Recipe, TrainSpec
from shoes.training import cache, lora
from shoes.training.objective import Batch, Objective, held_out_losses
from shoes.training.optimizer import make_optimizer, optimizer_tensors, set_learning_rate, set_optimizer_tensors
from shoes.training.randomness import draw_step
from shoes.training.schedule import learning_rate
from shoes.training.session import Session
from shoes.training.step import draw, take_step
from tests.training.opening import session_of

Make = Callable[..., Recipe]
OPTIONS = {
    "snr_gamma": "0.1",
    "timestep_sampling": "stratified",
    "noise_offset": "0.1",
    "caption_dropout": "0.5",
    "random_flip": "true",
    "use_rslora": "true",
    "loraplus_lr_ratio": "16",
}


def objective(prediction: str = "epsilon", gamma: float | None = 5.0) -> Objective:
    """ᾱ is 0.9, 0.5 and 0.1: signal-to-noise ratios of 9, 1 and 1/9. The UNet predicts 0."""
    schedule = DDPMScheduler(num_train_timesteps=3, trained_betas=[0.1, 4 / 9, 0.8], prediction_type=prediction)

    def unet(noisy, timesteps, text, return_dict):
        return (torch.zeros_like(noisy),)

    unet.dtype = torch.float32
    return Objective(unet, schedule, 1.0, "cpu", "no", gamma)


@pytest.mark.parametrize(
    ("prediction", "gamma", "expected"),
    [
        ("epsilon", 5.0, [5 / 9, 1, 1]),
        ("epsilon", 0.5, [0.5 / 9, 0.5, 1]),
        ("v_prediction", 5.0, [5 / 10, 1 / 2, (1 / 9) / (10 / 9)]),
        ("v_prediction", 0.5, [0.5 / 10, 0.5 / 2, (1 / 9) / (10 / 9)]),
    ],
)
def test_min_snr_weights_are_those_of_the_paper(prediction: str, gamma: float, expected: list[float]) -> None:
    assert objective(prediction, gamma).timestep_weights.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("prediction", "last"), [("epsilon", 1.0), ("v_prediction", 0.0)])
def test_a_schedule_that_ends_in_pure_noise_has_weights(prediction: str, last: float) -> None:
    found = objective(prediction)
    found.schedule.alphas_cumprod[2] = 0
    assert found.timestep_weights[2].item() == last


def test_weights_are_for_the_training_loss_only() -> None:
    noise, t = torch.randn(3, 4, 2, 2), torch.tensor([2, 0, 1])
    batch = Batch(torch.randn(3, 4, 2, 2), noise, t, torch.zeros(3, 1, 1))
    plain = noise.square().flatten(1).mean(1)
    assert torch.equal(objective(gamma=None).training_losses(batch), plain)
    torch.testing.assert_close(objective().training_losses(batch), plain * torch.tensor([1, 5 / 9, 1]))
    assert torch.equal(objective().loss(batch.clean, batch.noise, t, batch.text), plain)


def test_held_out_losses_are_not_weighted(micro: Make) -> None:
    session = session_of(micro())
    plain, weighted = (
        held_out_losses(replace(session.objective, snr_gamma=gamma), session.validation, [0, 1], seed=0, batch_size=8)
        for gamma in (None, 5.0)
    )
    assert torch.equal(plain, weighted)


def test_offset_noise_is_what_the_model_has_to_predict() -> None:
    spec = TrainSpec(train_batch_size=1, gradient_accumulation_steps=1, noise_offset=2.0)
    noise = draw_step(spec, 0, latent_shape=(4, 2, 2), num_timesteps=3).noise
    batch = Batch(torch.zeros(1, 4, 2, 2), noise, torch.tensor([1]), torch.zeros(1, 1, 1))
    assert objective(gamma=None).training_losses(batch).item() == pytest.approx(noise.square().mean().item())
    assert noise.square().mean() > 2


def test_without_options_the_loss_is_the_plain_one_to_the_bit(micro: Make) -> None:
    session = session_of(micro())
    order, draws = draw(session)
    found = session.objective
    losses = found.training_losses(found.batch(session.train, order, draws, slice(1, 3)))
    moments = torch.tensor(session.train.moments[order[1:3]])
    captions = torch.tensor(session.train.text[[session.train.caption_of[index] for index in order[1:3]]])
    noise, t = draws.noise[1:3], draws.timesteps[1:3]
    latents = moments[:, 0] + (0.5 * moments[:, 1]).exp() * draws.posterior_noise[1:3]
    noisy = found.schedule.add_noise(latents * found.scaling_factor, noise, t)
    expected = (found.unet(noisy, t, captions).sample - noise).square().flatten(1).mean(1)
    assert torch.equal(losses, expected)


def test_mirrored_photos_reach_the_model(micro: Make) -> None:
    session = session_of(micro({"train.random_flip": "true", "train.train_batch_size": "8"}))
    order, draws = draw(session)
    assert 0 < draws.flips.sum() < 16
    batch = session.objective.batch(session.train, order, draws, slice(0, 16))
    for place, index in enumerate(order):
        source = session.train.mirrored if draws.flips[place] else session.train.moments
        mean, log_variance = torch.tensor(source[index])
        latents = mean + (0.5 * log_variance).exp() * draws.posterior_noise[place]
        assert torch.equal(batch.clean[place], latents * session.objective.scaling_factor)
    assert session.validation.mirrored is None, "held-out photos are never mirrored"


def steps(session: Session, count: int) -> dict[str, torch.Tensor]:
    for _ in range(count):
        take_step(session)
    return {**lora.adapter_weights(session.objective.unet), **(session.average.tensors() if session.average else {})}


def test_every_option_makes_another_adapter(micro: Make) -> None:
    """Two steps: the first one's learning rate is 0. γ is small, so that it bites at every timestep of so few."""
    plain = steps(session_of(micro()), 2)
    seen = [plain]
    for name, value in OPTIONS.items():
        found = steps(session_of(micro({f"train.{name}": value})), 2)
        assert found.keys() == plain.keys()
        for other in seen:
            assert any(not torch.equal(found[key], other[key]) for key in found), name
        seen.append(found)


def test_with_all_options_resumed_equals_continuous(micro: Make) -> None:
    everything = {f"train.{name}": value for name, value in OPTIONS.items()}
    recipe = micro(everything | {"train.use_ema": "true", "train.lr_scheduler": "cosine"})
    whole = session_of(recipe)
    steps(whole, 2)
    snapshot = whole.snapshot()
    expected = steps(whole, 2)
    resumed = session_of(recipe)
    resumed.restore(snapshot)
    found = steps(resumed, 2)
    assert "num_updates" in found
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    fresh = steps(session_of(recipe), 2)
    assert any(not torch.equal(fresh[name], expected[name]) for name in expected)


def small_adapter() -> dict[str, torch.nn.Parameter]:
    return {f"layer.{matrix}.default.weight": torch.nn.Parameter(torch.ones(2, 2)) for matrix in ("lora_A", "lora_B")}


def moved(spec: TrainSpec, rate: float) -> list[float]:
    """How far AdamW's first step takes A and B."""
    weights = small_adapter()
    optimizer = make_optimizer(spec, weights, fused=True)
    set_learning_rate(optimizer, rate)
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return [1 - weight[0, 0].item() for weight in weights.values()]


def test_lora_plus_gives_b_a_larger_rate() -> None:
    plain = TrainSpec(adam_weight_decay=0)
    assert len(make_optimizer(plain, small_adapter(), fused=True).param_groups) == 1
    assert moved(plain, 1e-3) == pytest.approx([1e-3, 1e-3], rel=1e-3)
    assert moved(plain.model_copy(update={"loraplus_lr_ratio": 16.0}), 1e-3) == pytest.approx([1e-3, 16e-3], rel=1e-3)


def test_every_parameter_is_in_one_group(micro: Make) -> None:
    session = session_of(micro({"train.loraplus_lr_ratio": "4"}))
    down, up = (group["params"] for group in session.optimizer.param_groups)
    ids = {id(parameter): name for name, parameter in session.parameters.items()}
    assert {ids[id(p)].split(".")[-3] for p in down} == {"lora_A"}
    assert {ids[id(p)].split(".")[-3] for p in up} == {"lora_B"}
    assert len(down) + len(up) == len(session.parameters)
    assert [group["lr"] for group in session.optimizer.param_groups] == pytest.approx([2e-3, 8e-3])


@pytest.mark.parametrize("ratio", [1.0, 16.0])
def test_the_optimizer_state_goes_over_by_name(ratio: float) -> None:
    spec = TrainSpec(loraplus_lr_ratio=ratio)
    weights, others = small_adapter(), small_adapter()
    first, second = (make_optimizer(spec, each, fused=True) for each in (weights, others))
    assert optimizer_tensors(first, weights) == {}
    for number, weight in enumerate(weights.values()):
        weight.grad = torch.full_like(weight, float(number + 1))
    first.step()
    tensors = optimizer_tensors(first, weights)
    assert len(tensors) == 6
    set_optimizer_tensors(second, others, tensors)
    again = optimizer_tensors(second, others)
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


@pytest.mark.parametrize(
    "name", ["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"]
)
def test_the_learning_rate_is_that_of_diffusers(name: str) -> None:
    spec = TrainSpec(
        learning_rate=2e-3, lr_scheduler=name, lr_warmup_steps=5, max_train_steps=40, lr_num_cycles=3, lr_power=2.0
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=40, num_cycles=3, power=2.0)
    rate = learning_rate(spec)
    for step in range(40):
        assert rate(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12, abs=1e-15)
        optimizer.step()
        theirs.step()


def test_cycles_and_power_change_their_schedules() -> None:
    def at(step: int, **options: object) -> float:
        return learning_rate(TrainSpec(lr_warmup_steps=0, max_train_steps=40, **options))(step)

    assert at(30, lr_scheduler="cosine_with_restarts", lr_num_cycles=2) == pytest.approx(5e-5)
    assert at(30, lr_scheduler="cosine_with_restarts") < 2e-5
    assert at(20, lr_scheduler="polynomial", lr_power=2.0) < at(20, lr_scheduler="polynomial")


def test_a_rate_below_the_end_of_the_polynomial_is_refused() -> None:
    with pytest.raises(ValueError, match="learning_rate must be larger"):
        TrainSpec(lr_scheduler="polynomial", learning_rate=1e-8)


def test_the_forecast_counts_mirrored_photos(micro: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []
    encode = cache.encode_photos

    def counted(vae, records, *arguments, **options):
        encoded.extend(records)
        return encode(vae, records, *arguments, **options)

    monkeypatch.setattr(cache, "encode_photos", counted)
    recipe = micro({"train.random_flip": "true"})
    data = stages.prepare_data(recipe)
    shutil.rmtree(stages.load_settings().cache / "latents")
    session = session_of(recipe)
    work = plan(recipe.train, recipe.eval, data, start_step=0, is_cached=False)
    assert work.num_photos_to_encode == len(encoded) == 2 * len(session.train) + len(session.validation)
