"""A training's exported adapter, proven on the device and in the precision that it was trained in.

It is a stage of its own, after the training and the choice of the checkpoint: what was trained is exported and kept
before anything judges it. Like is compared with like. The trained adapter draws through the same layers as the loaded
forms, peft's, with its weights rounded as theirs are when they are loaded; then the pictures are equal, or rounding has
to explain how they differ. How much that can be is measured: the fused layers of the training (`fused_lora`) compute
the same picture with their sums in another order.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.dataset import load_split
from shoes.device import release, torch_dtype
from shoes.model.inference import set_up_vae, vae_inference
from shoes.model.load import assemble_pipeline, load_unet
from shoes.publishing.export import is_exported, weights_of
from shoes.publishing.proof import Updates, doubts, mean_difference, prove, updates_of
from shoes.reports import ExportProof, TrainReport
from shoes.sampling import draw
from shoes.storage import fingerprint, is_whole, new_folder, pretty_json
from shoes.training import lora
from shoes.training.fused_lora import fuse_adapter
from shoes.training.run import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from PIL.Image import Image

FORMAT = 1
TRAINED = "trained"
"""Name of the trained adapter's own picture."""


class _Prompt:
    """One picture to draw."""

    def __init__(self, prompt: str) -> None:
        self.prompt, self.seed = prompt, 0


def kept_proof(job: Job, training: TrainReport) -> ExportProof | None:
    """The proof of this very export, if it was made before."""
    folder = _place(job, training)
    if not is_whole(folder):
        return None
    return ExportProof.model_validate_json((folder / "proof.json").read_text(encoding="utf-8"))


def prove_export(job: Job, training: TrainReport) -> ExportProof:
    """Load each form of a training's adapter as its users do, and compare it with what was trained.

    The pictures and proof.json are kept below `proof` in the run's folder; a proof that is kept is not made again.

    Raises:
        ExportError: a form is not the adapter that was trained.
    """
    if (kept := kept_proof(job, training)) is not None:
        return kept
    started = time.monotonic()
    pictures, rounding = _compare(job, training)
    expected = pictures.pop(TRAINED)
    differences = {form: mean_difference(expected, picture) for form, picture in pictures.items()}
    proof = ExportProof(
        adapter_sha256=training.adapter_sha256,
        differences=differences,
        rounding=rounding,
        doubts=doubts(differences, rounding),
        seconds=time.monotonic() - started,
    )
    with new_folder(_place(job, training)) as folder:
        for name, picture in {TRAINED: expected, **pictures}.items():
            picture.save(folder / f"{name.replace(' ', '-')}.png")
        (folder / "proof.json").write_text(pretty_json(proof), encoding="utf-8")
    return proof


def _place(job: Job, training: TrainReport) -> Path:
    decided = (training.adapter_sha256, training.device, training.precision, job.sampler, job.inference)
    return job.folder / "proof" / fingerprint("proof", FORMAT, *decided)


def _compare(job: Job, training: TrainReport) -> "tuple[dict[str, Image], float | None]":
    """The picture of the trained adapter and of each form; where they differ, how far two orders of rounding do."""
    device = training.device
    unet = load_unet(job.model.path, device=device, dtype=torch_dtype(training.precision))
    pipeline = assemble_pipeline(job.model.path, unet, job.sampler.scheduler, device=device)
    options = vae_inference(job.inference, device, resolution=job.spec.resolution)
    set_up_vae(pipeline.vae, options, resolution=job.spec.resolution)
    paint = partial(_draw, job)
    trained = job.candidate(training.chosen_step)
    if not is_exported(trained):  # somebody removed it: the forms can still be compared with one another
        trained = training.adapter_dir
    with _on(unet, job, trained) as updates:
        expected = paint(pipeline)
    forms = prove(training.adapter_dir, pipeline, updates=updates, draw=paint)
    rounding = None
    if any(mean_difference(expected, picture) > 0 for picture in forms.values()):
        with _on(unet, job, trained):
            fuse_adapter(unet)
            rounding = mean_difference(expected, paint(pipeline))
    del pipeline, unet
    release(device)
    return {TRAINED: expected, **forms}, rounding


@contextmanager
def _on(unet: "UNet2DConditionModel", job: Job, candidate: Path) -> Iterator[Updates]:
    """The adapter of a candidate on a base's UNet, in its precision; what it adds to each layer, in fp32."""
    spec = job.spec.model_copy(update={"lora_dropout": 0.0})  # drawing drops nothing
    lora.add_adapter(unet, spec)
    lora.set_adapter_weights(unet, weights_of(candidate))
    updates = updates_of(unet)
    try:
        for parameter in lora.trainable(unet).values():
            parameter.data = parameter.data.to(unet.dtype)
        yield updates
    finally:
        unet.unload_lora()


def _draw(job: Job, pipeline: "StableDiffusionPipeline") -> "Image":
    prompt, *_ = (*job.spec.validation_prompts, *_captions(job.validation_dir), "")
    (picture,) = draw(
        pipeline,
        [_Prompt(prompt)],
        num_inference_steps=job.sampler.num_inference_steps,
        guidance_scale=job.sampler.guidance_scale,
        negative_prompt=job.sampler.negative_prompt,
        resolution=job.spec.resolution,
    )
    return picture


def _captions(split: Path) -> list[str]:
    return sorted({record.caption for record in load_split(split, decode=False)} - {""})
