"""What does an evaluation's drawing cost over a bare call of the pipeline with the same batches?

    python benchmarks/evaluation_speed.py [--resolution 256] [--batch 2] [--steps 4] [--rounds 5] [--work DIR] [--quick]

Ours draws a set of pictures as an evaluation does: seeds, the VAE in fp32, every picture written with its recipe,
synced, sealed, and looked at for blanks. Bare calls the same StableDiffusionPipeline with the same prompts, seeds,
batches and steps, and throws the pictures away. Stable Diffusion 1.5 in full size with random weights, in bf16 where
the processor has it. Few steps make the rest weigh more: with the usual 25 it is less. By turns in one process; the
median of the rounds' ratios counts. Prints one JSON line last: `time_over_bare` (1.05 or less). `--quick` takes the
demo's model in fp32, 16 pictures of 64 px, for which nothing is claimed.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from speed.full_size import DEMO, full_size_model

from shoes.evaluation.drawings import Drawing, DrawingSettings
from shoes.evaluation.gates import check_pictures
from shoes.evaluation.inputs import Arm, Canvas

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

GUIDANCE = 7.5


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="shoes-bench-") as folder:
        work = options.work or Path(folder)
        pipeline = load(work, options)
        drawings = [Drawing(f"a professional product photo, number {n}", n, n) for n in range(options.images)]
        rounds = []
        for number in range(options.rounds + 1):  # the first one warms up
            place = Path(folder) / str(number)
            ours = seconds(partial(draw_ours, pipeline, drawings, place, options))
            bare = seconds(partial(draw_bare, pipeline, drawings, options))
            rounds.append((ours, bare))
            print(f"round {number}: ours {ours:.2f} s, bare {bare:.2f} s, ratio {ours / bare:.3f}", flush=True)
    ratios = sorted(ours / bare for ours, bare in rounds[1:])
    found = {
        "benchmark": "evaluation_speed",
        "model": "demo" if options.quick else "full size",
        "resolution": options.resolution,
        "images": options.images,
        "batch": options.batch,
        "steps": options.steps,
        "time_over_bare": round(statistics.median(ratios), 3),
        "range": [round(ratios[0], 3), round(ratios[-1], 3)],
    }
    print(json.dumps(found))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resolution", type=int, help="256; with --quick the demo's 64")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, help="5; with --quick 2")
    parser.add_argument("--work", type=Path, help="keeps the full-size model for the next time")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.resolution = options.resolution or (64 if options.quick else 256)
    options.rounds = options.rounds or (2 if options.quick else 5)
    return options


def load(work: Path, options: argparse.Namespace) -> "StableDiffusionPipeline":
    import torch

    from shoes.model.load import load_pipeline

    path = DEMO if options.quick else full_size_model(work / "full-size-model")
    dtype = torch.float32 if options.quick else torch.bfloat16
    return load_pipeline(path, device="cpu", dtype=dtype, scheduler="dpm-solver", resolution=options.resolution)


def draw_ours(
    pipeline: "StableDiffusionPipeline", drawings: Sequence[Drawing], place: Path, options: argparse.Namespace
) -> None:
    """As `shoes evaluate` draws an arm."""
    from shoes.evaluation.arms import Tools, draw_arms
    from shoes.sampling import draw

    settings = DrawingSettings(
        scheduler="dpm-solver",
        num_inference_steps=options.steps,
        guidance_scale=GUIDANCE,
        negative_prompt="",
        resolution=options.resolution,
        device_type="cpu",
        dtype="bf16",
    )
    drawn = partial(
        draw,
        pipeline,
        num_inference_steps=options.steps,
        guidance_scale=GUIDANCE,
        resolution=options.resolution,
        batch_size=options.batch,
    )
    tools = Tools(lambda _: drawn)
    pictures, _ = draw_arms(Canvas("bench", settings, place), [Arm("base")], drawings, tools, lambda *_: None)
    assert not check_pictures("base", pictures["base"], len(drawings))


def draw_bare(pipeline: "StableDiffusionPipeline", drawings: Sequence[Drawing], options: argparse.Namespace) -> None:
    """The pipeline alone; its VAE is in fp32 as it is, and so the latents are brought there."""
    import torch

    vae = pipeline.vae
    for start in range(0, len(drawings), options.batch):
        part = drawings[start : start + options.batch]
        with torch.inference_mode():
            latents = pipeline(
                [drawing.prompt for drawing in part],
                num_inference_steps=options.steps,
                guidance_scale=GUIDANCE,
                height=options.resolution,
                width=options.resolution,
                generator=[torch.Generator().manual_seed(drawing.seed) for drawing in part],
                output_type="latent",
            ).images
            pixels = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample
            pipeline.image_processor.postprocess(pixels, output_type="pil")


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
