"""Seconds for a picture at full size, as `shoes generate` draws it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.device import ground
from benchmarks.device.place import Place
from benchmarks.device.rows import Row, failed, no_time

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

PART = "drawing"
GUIDANCE = 7.5


@dataclass(frozen=True)
class Drawing:
    prompt: str = "a red canvas shoe"
    seed: int = 0


def run(place: Place) -> Iterator[Row]:
    """A precision after the other, the device's own first."""
    from shoes.device import precision_name

    options = place.options
    for precision in sorted(place.precisions, key=lambda p: p != place.precision):
        what = f"{precision_name(precision)}, {options.resolution} px, {options.num_inference_steps} steps"
        if place.seconds_left <= 0:
            yield no_time(PART, what)
            continue
        try:
            yield _drawn(place, precision, what)
        except Exception as error:  # noqa: BLE001 - the other precisions are to be drawn in
            yield failed(PART, what, error)


def _drawn(place: Place, precision: str, what: str) -> Row:
    from shoes.device import release, torch_dtype, watch_memory
    from shoes.model.inference import choose_inference
    from shoes.model.load import load_pipeline
    from shoes.spec import InferenceSpec

    resolution = place.options.resolution
    release(place.device)
    with watch_memory(place.device) as watch:
        pipeline = load_pipeline(
            ground.full_model(place),
            device=place.device,
            dtype=torch_dtype(precision),
            scheduler="dpm-solver",
            inference=choose_inference(InferenceSpec(), place.device, resolution=resolution),
            resolution=resolution,
        )
        _draw(place, pipeline, num_inference_steps=2)  # what only the first picture pays
        seconds = [_draw(place, pipeline)]
        while len(seconds) < place.options.num_pictures and place.seconds_left > 2 * seconds[-1]:
            seconds.append(_draw(place, pipeline))
    values = {"seconds": [round(second, 4) for second in seconds], "peak_bytes": watch.growth_bytes}
    note = f"dpm-solver, guidance {GUIDANCE}, one at a time; {watch.growth_bytes / 1024**3:.1f} GB"
    return Row(PART, what, f"{median(seconds):.2f} s/image", note, values=values)  # type: ignore[arg-type]


def _draw(place: Place, pipeline: "StableDiffusionPipeline", num_inference_steps: int | None = None) -> float:
    """Seconds until a picture is on the CPU; it must have no value that is not finite."""
    from shoes.sampling import draw_pixels

    started = time.perf_counter()
    drawn = draw_pixels(
        pipeline,
        [Drawing()],
        num_inference_steps=num_inference_steps or place.options.num_inference_steps,
        guidance_scale=GUIDANCE,
        resolution=place.options.resolution,
    )
    pixels = next(drawn).float().cpu()
    seconds = time.perf_counter() - started
    if not bool(pixels.isfinite().all()):
        raise ArithmeticError("the picture has values that are not finite")
    return seconds
