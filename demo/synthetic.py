"""The demo's data set: casual shoes that a tiny model drew after it had been fine-tuned on real ones."""

import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from demo import diffusion, loop
from demo.catalogue import CASUAL_SHOES, Item
from demo.scoring import Scorer, pixel_distances
from shoes.dataset import Product, write_data_set
from shoes.reports import DataReport
from shoes.spec import DataSpec

log = logging.getLogger("demo")

NUM_VARIANTS = 6
BATCH_SIZE = 32
GUIDANCE_SCALE = 2.0
FIRST_ID = 900_000
"""Above every id in the catalogue, so that nobody takes a drawing for a product."""


@dataclass(frozen=True)
class Limits:
    """What a drawing must be, taken from the real photos: their own 600 answers to the same questions."""

    ground: float
    """Least brightness of the border, 0 to 255."""
    contrast: float
    """Least standard deviation of the pixels."""
    caption_score: dict[str, float]
    """Least score with its own caption, by colour; under "" for colours of few photos."""
    likeness: dict[str, float]
    """Least cosine to the most similar real photo, by colour likewise."""
    distance: dict[str, float]
    """Least pixel distance to the nearest real photo or earlier drawing, by colour: anything nearer is a copy."""


def fine_tune(
    base: Path, items: list[Item], photos: np.ndarray, *, num_steps: int, folder: Path, device: str
) -> StableDiffusionPipeline:
    """Teach the whole UNet the real casual shoes; checkpoints are kept in `folder`."""
    pipeline = diffusion.load_pipeline(base, device)
    data = diffusion.cache(pipeline, items, photos, NUM_VARIANTS)
    unet = pipeline.unet.to(memory_format=torch.channels_last)
    loop.trainable([unet])
    training = loop.Training("fine-tune", {"unet": unet}, num_steps, 2e-4, folder, ema_decay=0.99)
    loop.train(training, diffusion.step_loss(unet, data, batch_size=16, seed=5, other_captions=0.0))
    unet.eval().to(memory_format=torch.contiguous_format)
    return pipeline


def sample_items(items: list[Item], num_items: int, seed: int) -> list[Item]:
    """Imaginary products: colour, season and gender together as often as in the real ones."""
    chosen = random.Random(seed).choices(items, k=num_items)
    return [
        Item(str(FIRST_ID + number), item.colour, CASUAL_SHOES, item.season, item.gender)
        for number, item in enumerate(chosen, start=1)
    ]


def draw_resumably(pipeline: StableDiffusionPipeline, captions: list[str], folder: Path) -> np.ndarray:
    """One drawing a caption; every batch is kept in `folder` as soon as it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = []
    for start in range(0, len(captions), BATCH_SIZE):
        file = folder / f"drawings-{start:05d}.safetensors"
        if not file.exists():
            chosen = captions[start : start + BATCH_SIZE]
            drawn = diffusion.draw(pipeline, chosen, seed=1000 + start, guidance_scale=GUIDANCE_SCALE)
            partial_file = file.with_suffix(".partial")
            save_file({"photos": torch.from_numpy(drawn)}, partial_file)
            partial_file.replace(file)
            log.info("drawings: %d of %d", start + len(chosen), len(captions))
        batches.append(load_file(file)["photos"].numpy())
    return np.concatenate(batches)


def real_limits(scorer: Scorer, items: list[Item], photos: np.ndarray) -> Limits:
    """Limits that all but a few in a hundred of the real photos keep themselves."""
    embeddings = scorer.images(photos)
    likeness = (embeddings @ embeddings.T).fill_diagonal_(-1).max(1).values.numpy()
    distances = pixel_distances(photos, photos)
    np.fill_diagonal(distances, np.inf)
    scores = scorer.scores(photos, [item.caption() for item in items])
    colours = [item.colour for item in items]
    return Limits(
        ground=float(np.percentile(border_brightness(photos), 3)) - 5,
        # White shoes on white have little contrast of their own.
        contrast=0.8 * float(np.percentile(photos.std((1, 2, 3)), 1)),
        caption_score=_tenth_by_colour(scores, colours),
        likeness=_tenth_by_colour(likeness, colours),
        distance=_tenth_by_colour(distances.min(1), colours),
    )


def _tenth_by_colour(values: np.ndarray, colours: list[str]) -> dict[str, float]:
    """10th percentile of each colour that has enough photos, and of all under "".

    One limit for all would refuse most drawings of the colours that CLIP is less sure of.
    """
    counts = Counter(colours)
    frequent = [colour for colour in counts if counts[colour] >= 20]
    groups = {colour: values[np.array(colours) == colour] for colour in frequent} | {"": values}
    return {colour: float(np.percentile(group, 10)) for colour, group in sorted(groups.items())}


def border_brightness(images: np.ndarray) -> np.ndarray:
    """The darkest of the four sides' mean brightness, 0 to 255, [n]."""
    grey = images.mean(-1)
    sides = [grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]]
    return np.min([side.mean(-1) for side in sides], axis=0)


def verdicts(
    scorer: Scorer, drawings: np.ndarray, items: Sequence[Item], photos: np.ndarray, limits: Limits
) -> list[str]:
    """Why each drawing is refused; an empty text means that it is kept."""
    to_real = np.min([pixel_distances(drawings, variant).min(1) for variant in _copies(photos)], axis=0)
    likeness = (scorer.images(drawings) @ scorer.images(photos).T).max(1).values.numpy()
    scores = scorer.scores(drawings, [item.caption() for item in items])
    nearest = _limit_of(items, limits.distance)
    questions = {
        "dark ground": border_brightness(drawings) < limits.ground,
        "blank": drawings.std((1, 2, 3)) < limits.contrast,
        "not its caption": scores < _limit_of(items, limits.caption_score),
        "no shoe": likeness < _limit_of(items, limits.likeness),
        "copy of a photo": to_real < nearest,
    }
    reasons = [next((why for why, bad in questions.items() if bad[i]), "") for i in range(len(drawings))]
    return _without_duplicates(reasons, pixel_distances(drawings, drawings), nearest)


def _limit_of(items: Sequence[Item], by_colour: dict[str, float]) -> np.ndarray:
    return np.array([by_colour.get(item.colour, by_colour[""]) for item in items])


def _copies(photos: np.ndarray) -> list[np.ndarray]:
    """The photos as the fine-tuning saw them: a copy of a moved one is a copy too."""
    return diffusion.moved(photos, NUM_VARIANTS)


def _without_duplicates(reasons: list[str], distances: np.ndarray, nearest: np.ndarray) -> list[str]:
    kept: list[int] = []
    for number, reason in enumerate(reasons):
        if reason:
            continue
        if kept and distances[number, kept].min() < nearest[number]:
            reasons[number] = "copy of another drawing"
        else:
            kept.append(number)
    return reasons


def choose(reasons: Sequence[str], num_kept: int, *, at_least: int) -> list[int]:
    """The first good drawings; if they are too few, as after a test's few steps, bad ones too."""
    good = [number for number, reason in enumerate(reasons) if not reason][:num_kept]
    if len(good) >= at_least:
        return good
    log.warning("only %d of %d drawings are good: the data set is filled with bad ones", len(good), len(reasons))
    return sorted([*good, *(n for n, reason in enumerate(reasons) if reason)][:at_least])


def provenance(reasons: Sequence[str], limits: Limits, num_kept: int) -> dict[str, object]:
    """What the data set's manifest says of where it is from."""
    return {
        "name": "synthetic",
        "made_by": "demo.make: drawn by a tiny diffusion model that was fine-tuned on real casual shoes",
        "candidates": len(reasons),
        "kept": num_kept,
        "refused": dict(Counter(reason for reason in reasons if reason)),
        "limits": _rounded(asdict(limits)),
        "guidance_scale": GUIDANCE_SCALE,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return round(value, 3)


def contact_sheet(images: np.ndarray, columns: int = 20, scale: int = 1) -> Image.Image:
    """The images side by side, for people to look at."""
    side = images.shape[1] * scale
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for number, image in enumerate(images):
        picture = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(picture, (number % columns * side, number // columns * side))
    return sheet


def write(target: Path, items: list[Item], drawings: np.ndarray, source: dict[str, object]) -> DataReport:
    """The kept drawings as a data set like any other."""
    products = [
        Product(item.id, item.attributes(), partial(Image.fromarray, drawing))
        for item, drawing in zip(items, drawings, strict=True)
    ]
    return write_data_set(target, products, DataSpec(), resolution=drawings.shape[1], source=source)
