"""A training step with each option on the emulated device: what it refuses, it would refuse on a Mac."""

from collections.abc import Callable

import pytest
import torch

from shoes import stages
from shoes.spec import Recipe
from shoes.training.objective import Objective, held_out_losses
from shoes.training.run import Decisions, Job
from shoes.training.session import Session, open_session
from shoes.training.step import take_step
from shoes.training.validation import draw_with_session
from tests.emulated import faults
from tests.emulated.tensor import Computer

OPTIONS = {
    "plain": {},
    "recomputed attention": {"checkpointing": "attention"},
    "recomputed blocks": {"checkpointing": "full"},
    "bf16": {"precision": "bf16"},
    "bf16, recomputed attention": {"precision": "bf16", "checkpointing": "attention"},
    "fp16": {"precision": "fp16"},
    "fp16, recomputed blocks": {"precision": "fp16", "checkpointing": "full"},
    "dropout": {"train.lora_dropout": "0.1"},
    "dropout in bf16": {"train.lora_dropout": "0.1", "precision": "bf16"},
    "average": {"train.use_ema": "true"},
    "min-SNR": {"train.snr_gamma": "5"},
    "LoRA+": {"train.loraplus_lr_ratio": "4"},
    "rank-stabilised": {"train.use_rslora": "true"},
    "offset noise": {"train.noise_offset": "0.1"},
    "caption dropout": {"train.caption_dropout": "0.5"},
    "stratified timesteps": {"train.timestep_sampling": "stratified"},
    "flips": {"train.random_flip": "true"},
    "feed-forward and convolutions": {"train.lora_target_modules": "to_q,ff.net.0.proj,ff.net.2,proj_in,conv1"},
    "clipped gradients": {"train.max_grad_norm": "1e-6"},
}
TOGETHER = {
    "in fp32": [*OPTIONS["recomputed attention"].items(), *OPTIONS["min-SNR"].items(), *OPTIONS["average"].items(),
                *OPTIONS["LoRA+"].items(), *OPTIONS["offset noise"].items(), *OPTIONS["flips"].items(),
                *OPTIONS["stratified timesteps"].items(), *OPTIONS["caption dropout"].items()],
    "in fp16": [*OPTIONS["fp16, recomputed blocks"].items(), *OPTIONS["dropout"].items(),
                *OPTIONS["rank-stabilised"].items(), *OPTIONS["feed-forward and convolutions"].items()],
}  # fmt: skip
Micro = Callable[..., Recipe]


def job_of(micro: Micro, options: dict[str, str]) -> Job:
    fields = {name: value for name, value in options.items() if "." in name}
    recipe = micro({"train.device": "mps", "train.train_batch_size": "1", **fields})
    return stages._job(recipe, stages.fetch_model(recipe), stages.prepare_data(recipe))


def session_on(job: Job, device: str, options: dict[str, str]) -> Session:
    decisions = Decisions(
        device=device,
        precision=options.get("precision", "no"),
        num_threads=1,
        reasons={},
        checkpointing=options.get("checkpointing", "off"),
        micro_batch=1,
    )
    return open_session(job, decisions, None)


PARTS = ("data", "forward", "backward", "optimizer")


def walk(session: Session, mps: Computer) -> list[float]:
    """Two steps with all that is around them; their losses."""
    first = take_step(session)
    held_out_losses(session.objective, session.validation, [0], seed=1, batch_size=8)
    snapshot = session.snapshot()
    waits = mps.waits
    second = take_step(session)
    assert mps.waits - waits == 1, "a step waits for the device once"
    session.restore(snapshot)
    assert take_step(session)["train/loss"] == second["train/loss"], "a step is the same when it is taken again"
    assert {name for name in first if name.startswith("time/")} == {f"time/{part}" for part in PARTS}
    return [first["train/loss"], second["train/loss"]]


@pytest.mark.parametrize("name", TOGETHER)
def test_options_together_take_a_step(micro: Micro, mps: Computer, name: str) -> None:
    options = dict(TOGETHER[name])
    session = session_on(job_of(micro, options), "mps", options)
    assert take_step(session)["train/grad_norm"] > 0
    session.restore(session.snapshot())
    with session.as_exported():
        losses = held_out_losses(session.objective, session.validation, [0], seed=1, batch_size=8)
    assert bool(losses.isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_takes_the_step_of_the_cpu(micro: Micro, mps: Computer, name: str) -> None:
    options = OPTIONS[name]
    job = job_of(micro, options)
    session = session_on(job, "mps", options)
    found = walk(session, mps)
    right = session_on(job, "cpu", {**options, "precision": "no"})
    expected = [take_step(right)["train/loss"] for _ in found]
    tolerance = 1e-4 if session.decisions.precision == "no" else 0.02
    assert found == pytest.approx(expected, rel=tolerance)
    with session.as_exported():
        (picture,) = draw_with_session(session, ["a red shoe"])
    assert len(set(picture.getdata())) > 100


class DrawsOnTheDevice(torch.nn.Module):
    """Dropout whose masks a generator of the CPU draws for the device."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        numbers = torch.rand(x.shape, device=x.device, generator=torch.Generator().manual_seed(0))
        return x * (numbers > 0.1)


def in_double(objective: Objective, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return noise.double()


def left_behind(objective: Objective, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return noise.cpu()


def by_numpy(objective: Objective, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(noise.numpy()).to(clean.device)


def test_what_a_step_must_not_ask_of_a_mac_is_found_by_name(micro: Micro, mps: Computer) -> None:
    options = {"train.lora_dropout": "0.1"}
    session = session_on(job_of(micro, options), "mps", options)

    def found(error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            take_step(session)

    for target, error, words in (
        (in_double, TypeError, "float64"),
        (left_behind, RuntimeError, "at least two devices, mps:0 and cpu"),
        (by_numpy, TypeError, "to numpy"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Objective, "_target", target)
            found(error, words)
    with mps.faults.plant(faults.missing("native_group_norm")):
        found(NotImplementedError, "aten::native_group_norm")
    layer = next(module for module in session.objective.unet.modules() if hasattr(module, "lora_dropout"))
    own, layer.lora_dropout["default"] = layer.lora_dropout["default"], DrawsOnTheDevice()
    found(RuntimeError, "generator")
    layer.lora_dropout["default"] = own
    assert take_step(session)["train/loss"] > 0, "nothing is wrong with the step itself"
