"""Every kind of work that a night does, done once on given inputs: what `shoes.device.parity` compares."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle, islice
from typing import TYPE_CHECKING

from shoes.batches import batched
from shoes.dataset import Record, load_split
from shoes.device.memory import is_out_of_memory, release
from shoes.device.parity import REFERENCE, Outcome, Way
from shoes.device.tf32 import computes_in_tf32, in_full_fp32
from shoes.errors import TrainingError
from shoes.model import configs
from shoes.model.load import assemble_pipeline, load_noise_schedule, load_text, load_vae
from shoes.sampling import draw_latents
from shoes.training import lora
from shoes.training.cache import encode_photos, encode_text
from shoes.training.dropout import DropoutKey, use_sample_dropout
from shoes.training.objective import Batch, Objective
from shoes.training.passes import Pass, by_kind, predict, take_pass, together, update, wake_adapter
from shoes.training.randomness import generator

if TYPE_CHECKING:
    import torch

    from shoes.training.run import Job

log = logging.getLogger(__name__)
MOST_PHOTOS = 4
"""Different photos that are computed with; a larger micro-batch holds them several times."""
NUM_SAMPLING_STEPS = 3
"""Enough for a multistep sampler to use what it remembers."""
NUM_DRAWN = 2
PLACES = (1 / 2, 1 / 4, 3 / 8, 5 / 8)
"""Of the photos' timesteps in the schedule. Near its end, where a step holds almost only noise, gradients are mostly
rounding."""


@dataclass(frozen=True)
class Photos:
    """Training photos as a step sees them, encoded in fp32 on the CPU: P of them."""

    records: Sequence[Record]
    moments: "torch.Tensor"
    """P×2×C×h×w: mean and log variance of the VAE's posterior, unscaled."""
    noise: "torch.Tensor"
    """P×C×h×w."""
    text: "torch.Tensor"
    """(P + 1)×T×D: of their captions, and of the empty one."""
    timesteps: "torch.Tensor"
    """P."""
    scaling_factor: float

    def batch(self, places: Sequence[int], device: str) -> Batch:
        """Some of them, on a device."""
        rows = list(places)
        inputs = (self.moments[rows, 0] * self.scaling_factor, self.noise[rows], self.timesteps[rows], self.text[rows])
        return Batch(*(value.to(device) for value in inputs))


@dataclass
class Findings:
    """An outcome as it grows."""

    device: str
    values: "dict[str, tuple[torch.Tensor, ...]]" = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str, *, is_vital: bool = True) -> Iterator[None]:
        """What PyTorch raises inside the block is a fault of this part.

        Raises:
            TrainingError: the memory is too small for what can't be done with less of it. Other work that does not
                fit is not compared: a training that does not fit saves itself, and says so.
        """
        try:
            yield
        except (RuntimeError, NotImplementedError, TypeError) as error:  # no kernel; a dtype that the device lacks
            if not is_out_of_memory(error):
                reason = (str(error) or "no reason given").splitlines()[0]
                self.failures[name] = f"fails ({type(error).__name__}: {reason})"
            elif is_vital:
                raise TrainingError(_TOO_SMALL.format(device=self.device)) from error
            else:
                log.info("not compared, the memory of %s is too small: %s", self.device, name.replace("_", " "))


_TOO_SMALL = (
    "The memory of {device} is too small to train on one image. Close other programs, or train with "
    "--train.gradient_checkpointing full or a smaller --train.resolution."
)


@dataclass(frozen=True)
class _Drawing:
    prompt: str
    seed: int


@dataclass(frozen=True)
class _Reference:
    """What fp32 on the CPU gave."""

    start: "dict[str, torch.Tensor]"
    """The adapter's weights."""
    passes: "list[Pass]"
    """One for each photo by itself."""
    predictions: "list[torch.Tensor]"
    """The same without gradients."""
    drawn: "tuple[torch.Tensor, ...]"
    picture: "tuple[torch.Tensor, ...]"


class Exercise:
    """Does a night's work in some way; holds one full-size model at a time, and remembers what it did."""

    def __init__(self, job: "Job", way: Way) -> None:
        """For a way and safer ones."""
        self._job = job
        self._device, self._checkpointing, largest = way.device, way.checkpointing, way.micro_batch
        self._num_photos = min(MOST_PHOTOS, max(NUM_DRAWN, largest, self._held_out_size))
        self._done: dict[object, Findings] = {}

    def __call__(self, way: Way) -> Outcome:
        """What came out."""
        if way.is_reference:
            with in_full_fp32():
                return Outcome(self._reference_values(way.micro_batch))
        unet = (way.device, way.precision, way.checkpointing, way.micro_batch)
        update = (way.device, way.precision, way.fused_optimizer)
        stages = [
            self._once(unet, way.device, lambda found: self._unet_parts(found, way)),
            self._once(update, way.device, lambda found: self._optimizer_part(found, way)),
        ]
        if way.device != REFERENCE[0]:  # on the CPU they are what they are compared with, whatever the precision
            stages.append(self._once(way.device, way.device, self._frozen_parts))
        values = {name: value for stage in stages for name, value in stage.values.items()}
        failures = {name: reason for stage in stages for name, reason in stage.failures.items()}
        return Outcome(values, failures, is_tf32=computes_in_tf32(way.device))

    def _once(self, key: object, device: str, work: Callable[[Findings], None]) -> Findings:
        if key not in self._done:
            self._done[key] = Findings(device)
            work(self._done[key])
            release(device)
        return self._done[key]

    @property
    def _held_out_size(self) -> int:
        return max(self._job.spec.train_batch_size, self._job.spec.eval_batch_size)

    def _places(self, count: int) -> list[int]:
        """So many photos, from the first one again where there are no others."""
        return list(islice(cycle(range(self._num_photos)), count))

    @cached_property
    def _photos(self) -> Photos:
        """Encoded on the CPU, which the device's own encoding is compared with."""
        import torch

        job = self._job
        records = load_split(job.train_dir, decode=False)[: self._num_photos]
        records = [records[place % len(records)] for place in range(self._num_photos)]
        moments = self._encode(records, REFERENCE[0])
        length = load_noise_schedule(job.model.path).config.num_train_timesteps
        return Photos(
            records=records,
            moments=moments,
            noise=torch.randn(moments[:, 0].shape, generator=generator(job.spec.seed, "parity")),
            text=self._read(records, REFERENCE[0]),
            timesteps=torch.tensor([int(place * length) for place in PLACES[: self._num_photos]]),
            scaling_factor=configs.geometry(job.model.path).scaling_factor,
        )

    @cached_property
    def _reference(self) -> _Reference:
        """What does not depend on the micro-batch: one image after the other, so that it takes little memory."""
        way = Way(*REFERENCE, checkpointing=self._checkpointing)
        objective, dropout = self._load(way)
        start = lora.adapter_weights(objective.unet)
        passes = [self._pass(objective, dropout, [place]) for place in range(self._num_photos)]
        predictions = [one.predictions[0] for one in passes]
        if self._job.spec.lora_dropout:  # nothing is dropped out without gradients
            predictions = [self._predict(objective, [place])[0] for place in range(self._num_photos)]
        drawn = self._draw(objective)
        del objective, dropout
        release(REFERENCE[0])
        picture = self._decode(REFERENCE[0]) if self._device != REFERENCE[0] else ()
        return _Reference(start, passes, predictions, drawn, picture)

    def _reference_values(self, micro_batch: int) -> "dict[str, tuple[torch.Tensor, ...]]":
        found, photos, many = self._reference, self._photos, self._places(micro_batch)
        passes = [found.passes[place] for place in many]
        return {
            "text": (photos.text,),
            "encode": photos.moments.unbind(1),
            "decode": found.picture,
            **_of_one_image(found.passes[0]),
            **together(passes),
            "held_out": tuple(found.predictions[place] for place in self._places(self._held_out_size)),
            "sampling": found.drawn,
            "optimizer": self._update(Way(*REFERENCE, fused_optimizer=False)),
        }

    def _unet_parts(self, found: Findings, way: Way) -> None:
        with found.part("gradient"):
            objective, dropout = self._load(way)
            found.values |= _of_one_image(self._pass(objective, dropout, [0]))
        if found.failures:
            return
        if way.micro_batch > 1:
            with found.part("batch_gradient", is_vital=False):
                found.values |= together([self._pass(objective, dropout, self._places(way.micro_batch))])
        with found.part("held_out", is_vital=False):
            found.values["held_out"] = self._predict(objective, self._places(self._held_out_size))
        with found.part("sampling", is_vital=False):
            found.values["sampling"] = self._draw(objective)

    def _optimizer_part(self, found: Findings, way: Way) -> None:
        with found.part("optimizer"):
            found.values["optimizer"] = self._update(way)

    def _frozen_parts(self, found: Findings) -> None:
        with found.part("text"):
            found.values["text"] = (self._read(self._photos.records, found.device),)
        with found.part("encode"):
            found.values["encode"] = self._encode(self._photos.records, found.device).unbind(1)
        with found.part("decode"):
            found.values["decode"] = self._decode(found.device)

    def _load(self, way: Way) -> tuple[Objective, DropoutKey]:
        """A UNet as it is trained, with an adapter that does something."""
        spec, photos = self._job.spec, self._photos
        unet = lora.load_with_adapter(
            self._job.model.path, spec, device=way.device, precision=way.precision, checkpointing=way.checkpointing
        )
        dropout = use_sample_dropout(unet, spec.lora_dropout, spec.seed)
        wake_adapter(unet, spec.seed)
        schedule = load_noise_schedule(self._job.model.path)
        where = (way.device, way.precision)
        return Objective(unet, schedule, photos.scaling_factor, *where, snr_gamma=spec.snr_gamma), dropout

    def _pass(self, objective: Objective, dropout: DropoutKey, places: list[int]) -> Pass:
        return take_pass(objective, self._photos.batch(places, objective.device), dropout, places)

    def _predict(self, objective: Objective, places: list[int]) -> "tuple[torch.Tensor, ...]":
        return predict(objective, self._photos.batch(places, objective.device))

    def _draw(self, objective: Objective) -> "tuple[torch.Tensor, ...]":
        """Latents of some captions, as validation and evaluation draw them, after a few steps."""
        job, sampler = self._job, self._job.sampler
        pipeline = assemble_pipeline(job.model.path, objective.unet, sampler.scheduler, device=objective.device)
        drawn = draw_latents(
            pipeline,
            [_Drawing(record.caption, seed) for seed, record in enumerate(self._photos.records[:NUM_DRAWN])],
            num_inference_steps=min(sampler.num_inference_steps, NUM_SAMPLING_STEPS),
            guidance_scale=sampler.guidance_scale,
            negative_prompt=sampler.negative_prompt,
            resolution=job.spec.resolution,
        )
        return tuple(drawn.float().cpu())

    def _update(self, way: Way) -> "tuple[torch.Tensor, ...]":
        found = self._reference
        return update(
            self._job.spec,
            found.start,
            found.passes[0].gradients,
            device=way.device,
            precision=way.precision,
            fused=way.fused_optimizer,
        )

    def _encode(self, records: Sequence[Record], device: str) -> "torch.Tensor":
        """P×2×C×h×w."""
        import torch

        vae = load_vae(self._job.model.path, device=device)
        batches = batched(records, self._job.spec.eval_batch_size)
        return torch.cat([torch.from_numpy(encode_photos(vae, batch, device)) for batch in batches])

    def _read(self, records: Sequence[Record], device: str) -> "torch.Tensor":
        """(P + 1)×T×D."""
        import torch

        text = load_text(self._job.model.path, device=device)
        return torch.from_numpy(encode_text(text, [*(record.caption for record in records), ""], device))

    def _decode(self, device: str) -> "tuple[torch.Tensor, ...]":
        """One photo's latents as a picture, 3×H×W."""
        import torch

        vae = load_vae(self._job.model.path, device=device)
        with torch.inference_mode():
            return tuple(vae.decode(self._photos.moments[:1, 0].to(device)).sample.float().cpu())


def _of_one_image(one: Pass) -> "dict[str, tuple[torch.Tensor, ...]]":
    return {"loss": (one.losses,), "prediction": one.predictions, "gradient": by_kind(one.gradients)}
