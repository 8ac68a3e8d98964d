"""The stages in order, from the catalogue to a folder as the demo ships it."""

import json
import logging
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from demo import autoencoder, catalogue, clip_training, diffusion, loop, storing, synthetic
from demo.catalogue import Item
from demo.plan import Plan, Schedule
from demo.scoring import Scorer
from demo.stages import Workshop
from demo.tokenizer import train_tokenizer
from shoes import storage

log = logging.getLogger("demo")


def photos_stage(workshop: Workshop, source: Path, resolution: int) -> Path:
    """All photos as small squares: `others` without casual shoes, and `casual`."""
    inputs = [storage.sha256(source / "styles.csv"), len(list((source / "images").iterdir())), resolution]

    def make(folder: Path, _: Path) -> None:
        groups = catalogue.split_off_casual_shoes(catalogue.read_items(source))
        for name, group in zip(("others", "casual"), groups, strict=True):
            items, photos = catalogue.read_photos(source, group, resolution)
            save_file({"photos": torch.from_numpy(photos)}, folder / f"{name}.safetensors")
            storage.write_text(folder / f"{name}.json", json.dumps([asdict(item) for item in items]))

    return workshop.stage("photos", inputs, make)


def read_group(folder: Path, name: str) -> tuple[list[Item], np.ndarray]:
    """One of the groups of the photos' stage."""
    items = [Item(**values) for values in json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))]
    return items, load_file(folder / f"{name}.safetensors")["photos"].numpy()


def held_out(items: list[Item], photos: np.ndarray) -> tuple[list[Item], np.ndarray]:
    """Every third photo: what the judge has not seen, and everything is measured on."""
    return items[::3], photos[::3]


def not_held_out(items: list[Item], photos: np.ndarray) -> tuple[list[Item], np.ndarray]:
    """The other photos."""
    rows = [row for row in range(len(items)) if row % 3]
    return [items[row] for row in rows], photos[rows]


def tokenizer_stage(workshop: Workshop, photos: Path) -> Path:
    """The tokenizer, of the captions of all products."""

    def make(folder: Path, _: Path) -> None:
        items = [item for name in ("others", "casual") for item in read_group(photos, name)[0]]
        captions = [item.caption(template) for item in items for template in catalogue.TEMPLATES]
        train_tokenizer([*captions, catalogue.EXTRA_WORDS], folder)

    return workshop.stage("tokenizer", [photos.name], make)


def _train(
    name: str,
    network: torch.nn.Module,
    schedule: Schedule,
    folder: Path,
    step_loss: loop.StepLoss,
    **options: float,
) -> None:
    training = loop.Training(name, {name: network}, schedule.num_steps, schedule.learning_rate, folder, **options)
    loop.train(training, step_loss)
    network.eval()


def autoencoder_stage(workshop: Workshop, photos: Path, plan: Plan) -> Path:
    """The VAE; it sees no casual shoe."""
    schedule = plan.autoencoder

    def make(folder: Path, checkpoints: Path) -> None:
        items, pixels = read_group(photos, "others")
        diffusion.forbid_casual_shoes(items)
        vae = autoencoder.new_autoencoder(plan.seed).to(workshop.device, memory_format=torch.channels_last)
        loop.trainable([vae])
        num_cropped = schedule.num_steps * 4 // 5
        loss = autoencoder.step_loss(
            vae, pixels, batch_size=schedule.batch_size, num_cropped=num_cropped, seed=plan.seed
        )
        _train("vae", vae, schedule, checkpoints, loss, ema_decay=0.995)
        autoencoder.normalise_latents(vae, pixels[:512])
        vae.to(memory_format=torch.contiguous_format).save_pretrained(folder)

    return workshop.stage("vae", [photos.name, asdict(schedule), plan.seed], make)


def clip_stage(workshop: Workshop, photos: Path, tokenizer: Path, plan: Plan, *, judge: bool) -> Path:
    """A CLIP: the judge, which sees casual shoes too, or the one that gives the model its text encoder."""
    schedule, seed = plan.clip, plan.seed + (100 if judge else 0)

    def make(folder: Path, checkpoints: Path) -> None:
        groups = [read_group(photos, "others")]
        if judge:
            # They are few among all the others, and they are what it has to judge.
            groups += [not_held_out(*read_group(photos, "casual"))] * 4
        items = [item for group, _ in groups for item in group]
        pixels = np.concatenate([group for _, group in groups])
        words = CLIPTokenizer.from_pretrained(tokenizer)
        clip = clip_training.new_clip(words, plan.resolution, seed).to(workshop.device)
        loop.trainable([clip])
        loss = clip_training.step_loss(clip, words, items, pixels, batch_size=schedule.batch_size, seed=seed)
        _train("clip", clip, schedule, checkpoints, loss, ema_decay=0.99, weight_decay=0.1)
        if judge:
            clip_training.save_clip(clip, words, plan.resolution, folder)
        else:
            diffusion.forbid_casual_shoes(items)
            clip_training.save_text_encoder(clip, folder)

    name = "clip" if judge else "text-encoder"
    return workshop.stage(name, [photos.name, tokenizer.name, asdict(schedule), seed], make)


def base_stage(workshop: Workshop, photos: Path, parts: dict[str, Path], plan: Plan) -> Path:
    """The Stable Diffusion: the UNet is trained on everything but casual shoes, the rest put around it."""
    schedule = plan.unet

    def make(folder: Path, checkpoints: Path) -> None:
        items, pixels = read_group(photos, "others")
        diffusion.forbid_casual_shoes(items)
        pipeline = _untrained_pipeline(parts, plan.seed).to(workshop.device)
        data = diffusion.cache(pipeline, items, pixels, 1)
        unet = pipeline.unet.to(memory_format=torch.channels_last)
        loop.trainable([unet])
        loss = diffusion.step_loss(unet, data, batch_size=schedule.batch_size, seed=plan.seed)
        _train("unet", unet, schedule, checkpoints, loss, ema_decay=0.999)
        unet.to(memory_format=torch.contiguous_format)
        pipeline.save_pretrained(folder)

    names = {name: part.name for name, part in parts.items()}
    return workshop.stage("base", [photos.name, names, asdict(schedule), plan.seed], make)


def _untrained_pipeline(parts: dict[str, Path], seed: int) -> StableDiffusionPipeline:
    tokenizer = CLIPTokenizer.from_pretrained(parts["tokenizer"])
    text_encoder = CLIPTextModel.from_pretrained(parts["text_encoder"], dtype=torch.float32)
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**diffusion.UNET, cross_attention_dim=text_encoder.config.hidden_size)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(parts["vae"]), text_encoder=text_encoder, tokenizer=tokenizer,
        unet=unet, scheduler=diffusion.noise_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def half_stage(workshop: Workshop, name: str, source: Path, inputs: list[str]) -> Path:
    """A model as it is shipped."""
    return workshop.stage(name, inputs, lambda folder, _: storing.copy_in_half_precision(source, folder))


def fine_tuned_stage(workshop: Workshop, photos: Path, model: Path, plan: Plan) -> Path:
    """The model that has learnt the real casual shoes; it is never shipped."""

    def make(folder: Path, checkpoints: Path) -> None:
        items, pixels = read_group(photos, "casual")
        pipeline = synthetic.fine_tune(
            model, items, pixels, num_steps=plan.fine_tune_steps, folder=checkpoints, device=workshop.device
        )
        pipeline.save_pretrained(folder)

    return workshop.stage("fine-tuned", [photos.name, model.name, plan.fine_tune_steps], make)


def drawings_stage(workshop: Workshop, photos: Path, fine_tuned: Path, plan: Plan) -> Path:
    """Candidates for the data set; each batch is kept as it is drawn."""

    def make(folder: Path, checkpoints: Path) -> None:
        items, _ = read_group(photos, "casual")
        wanted = synthetic.sample_items(items, plan.num_candidates, plan.seed)
        pipeline = diffusion.load_pipeline(fine_tuned, workshop.device)
        drawings = synthetic.draw_resumably(pipeline, [item.caption() for item in wanted], checkpoints)
        save_file({"photos": torch.from_numpy(drawings)}, folder / "drawings.safetensors")
        storage.write_text(folder / "drawings.json", json.dumps([asdict(item) for item in wanted]))
        synthetic.contact_sheet(drawings).save(folder / "sheet.png")

    return workshop.stage("drawings", [fine_tuned.name, plan.num_candidates, plan.seed], make)


def data_set_stage(workshop: Workshop, photos: Path, drawings: Path, clip: Path, plan: Plan) -> Path:
    """The drawings that pass, as a data set."""
    target = workshop.folder / f"casual_shoes-{storage.fingerprint(drawings.name, clip.name, plan.num_kept)}"
    if storage.is_whole(target):
        log.info("%s: already there", target.name)
        return target
    real_items, real = read_group(photos, "casual")
    items, pixels = read_group(drawings, "drawings")
    scorer = Scorer(clip, workshop.device)
    limits = synthetic.real_limits(scorer, real_items, real)
    reasons = synthetic.verdicts(scorer, pixels, items, real, limits)
    log.info("drawings: %s", dict(Counter(reason or "good" for reason in reasons)))
    kept = synthetic.choose(reasons, plan.num_kept, at_least=min(20, plan.num_kept))
    report = synthetic.write(
        target, [items[i] for i in kept], pixels[kept], synthetic.provenance(reasons, limits, len(kept))
    )
    log.info("%s: %s", target.name, [(split.name, split.num_images) for split in report.splits])
    synthetic.contact_sheet(pixels[kept]).save(workshop.folder / f"{target.name}.png")
    return target


def make_assets(workshop: Workshop, source: Path, plan: Plan, base: Path | None, clip: Path | None) -> dict[str, Path]:
    """Run every stage; a given base or CLIP is taken as it is instead of being trained."""
    photos = photos_stage(workshop, source, plan.resolution)
    if base is None or clip is None:
        tokenizer = tokenizer_stage(workshop, photos)
    if clip is None:
        clip = clip_stage(workshop, photos, tokenizer, plan, judge=True)
    if base is None:
        parts = {
            "tokenizer": tokenizer,
            "vae": autoencoder_stage(workshop, photos, plan),
            "text_encoder": clip_stage(workshop, photos, tokenizer, plan, judge=False),
        }
        base = base_stage(workshop, photos, parts, plan)
    model = half_stage(workshop, "model", base, [base.name, _digest(base)])
    judge = half_stage(workshop, "judge", clip, [clip.name, _digest(clip)])
    fine_tuned = fine_tuned_stage(workshop, photos, model, plan)
    drawings = drawings_stage(workshop, photos, fine_tuned, plan)
    data_set = data_set_stage(workshop, photos, drawings, judge, plan)
    return {"photos": photos, "model": model, "clip": judge, "casual_shoes": data_set}


def _digest(folder: Path) -> str:
    return storage.fingerprint(storage.hash_files(folder))
