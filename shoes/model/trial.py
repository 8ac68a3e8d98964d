"""First pictures of a model: does it draw on this machine, how fast, and with how much memory?"""

import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shoes.errors import ModelError, Problem
from shoes.model.inference import Inference
from shoes.reports import Report
from shoes.sampling import to_image
from shoes.spec import SchedulerName
from shoes.storage import fingerprint, new_folder, pretty_json

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline
    from PIL.Image import Image

    from shoes.progress import Progress

log = logging.getLogger(__name__)
KNOWN_PRODUCTS: tuple[Mapping[str, str], ...] = (
    {"colour": "Black", "season": "Summer", "gender": "Men"},
    {"colour": "White", "season": "Fall", "gender": "Women"},
    {"colour": "Blue", "season": "Spring", "gender": "Unisex"},
)
"""The three products whose captions, made by the recipe's template, are drawn: always the same, so that two
machines, or two nights, can be compared."""
REPORT = "trial.json"
GRID = "grid.png"
"""Names for people, where they differ from the recipe's."""


class TrialPlan(Report):
    """What is drawn, with what, and where."""

    name: str
    """The model, as the recipe names it."""
    model_dir: Path
    model_fingerprint: str
    adapter_dir: Path | None = None
    adapter_sha256: str | None = None
    device: str
    precision: str
    scheduler: SchedulerName
    num_inference_steps: int
    guidance_scale: float
    negative_prompt: str
    resolution: int
    prompts: tuple[str, ...]
    seed: int
    """Of the first picture; each further one has the next."""
    inference: Inference
    batch_size: int = 1
    """Pictures drawn at once."""
    repeats: int = 1
    """How often all prompts are drawn; the pictures of the last time are kept."""

    @property
    def fingerprint(self) -> str:
        """Name of the trial: all that decides its pictures, and neither places nor reasons."""
        fields = self.model_dump(mode="json", exclude={"model_dir", "adapter_dir", "inference"})
        return fingerprint("trial", fields, self.options)

    @property
    def options(self) -> dict[str, object]:
        """The memory-saving options."""
        return self.inference.model_dump(mode="json", exclude={"reasons"})


class TrialPicture(Report):
    """One picture, and what is wrong with it if something is."""

    prompt: str
    seed: int
    file: str
    verdict: Literal["OK", "blank", "NaN"]


class TrialReport(Report):
    """What was found."""

    plan: TrialPlan
    path: Path
    """Folder of the pictures, the grid and this report."""
    load_seconds: float
    """Reading the files and moving the parts to the device."""
    cold_seconds: float
    """The first picture; with several at once, its share of the first batch."""
    warm_seconds: float
    """Median of the others."""
    fastest_seconds: float
    slowest_seconds: float
    baseline_bytes: int
    """Memory before the model was loaded: on the CPU the process's own, else the device's."""
    peak_bytes: int
    """The most until the last picture was drawn."""
    pictures: tuple[TrialPicture, ...]

    @property
    def images_per_minute(self) -> float:
        """At the speed of the warm ones."""
        return 60 / self.warm_seconds

    @property
    def growth_bytes(self) -> int:
        """Memory that loading and drawing took."""
        return self.peak_bytes - self.baseline_bytes

    @property
    def is_good(self) -> bool:
        """No picture is blank or holds a value that is not finite."""
        return all(picture.verdict == "OK" for picture in self.pictures)


@dataclass(frozen=True)
class _Drawing:
    prompt: str
    seed: int


def known_prompts(template: str) -> tuple[str, ...]:
    """The three known prompts, in the words of a caption template."""
    from shoes.dataset.captions import render

    return tuple(render(template, product) for product in KNOWN_PRODUCTS)


def run_trial(plan: TrialPlan, folder: Path, on_progress: "Progress | None" = None) -> TrialReport:
    """Draw the plan's prompts and keep pictures, grid and report in `folder`, which is replaced.

    A picture that is blank or not finite is no error: the report says so.

    Raises:
        ModelError: the adapter does not fit the model, or the memory does not hold it.
    """
    from shoes.device import watch_memory
    from shoes.model.load import quiet_libraries

    quiet_libraries()  # what the libraries themselves take is not the model's memory
    with watch_memory(plan.device) as memory, _told_when_memory_is_short(plan):
        started = time.perf_counter()
        pipeline = _load(plan)
        load_seconds = time.perf_counter() - started
        seconds: list[float] = []
        batches: list[torch.Tensor] = []
        total = plan.repeats * len(plan.prompts)
        for pixels, spent in _timed_batches(plan, pipeline):
            seconds.append(spent / len(pixels))
            batches.append(pixels)
            if on_progress is not None:
                on_progress(sum(map(len, batches)), total)
    warm = seconds[1:] or seconds  # a single picture is all there is to know
    last = [picture for batch in batches for picture in batch][-len(plan.prompts) :]
    report = TrialReport(
        plan=plan,
        path=folder,
        load_seconds=load_seconds,
        cold_seconds=seconds[0],
        warm_seconds=statistics.median(warm),
        fastest_seconds=min(warm),
        slowest_seconds=max(warm),
        baseline_bytes=memory.baseline_bytes,
        peak_bytes=memory.peak_bytes,
        pictures=tuple(_judge(plan, number, pixels) for number, pixels in enumerate(last)),
    )
    _keep(report, [to_image(pixels) for pixels in last])
    return report


def _load(plan: TrialPlan) -> "StableDiffusionPipeline":
    from safetensors import SafetensorError

    from shoes.device import torch_dtype
    from shoes.model.load import load_pipeline

    try:
        return load_pipeline(
            plan.model_dir,
            device=plan.device,
            dtype=torch_dtype(plan.precision),
            scheduler=plan.scheduler,
            adapter_dir=plan.adapter_dir,
            inference=plan.inference,
            resolution=plan.resolution,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if plan.adapter_dir is None or _is_short_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[-1].strip()
        fix = "give an adapter that was trained on this model, whole, in diffusers' format"
        raise ModelError([Problem(str(plan.adapter_dir), f"does not fit {plan.name}: {reason}", fix)]) from error


@contextmanager
def _told_when_memory_is_short(plan: TrialPlan) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_short_of_memory(error):
            raise
        fix = "use --inference.vae_tiling true, --train.mixed_precision bf16, or a smaller --train.resolution"
        raise ModelError([Problem(plan.name, f"does not fit into the memory of {plan.device}", fix)]) from error


def _is_short_of_memory(error: Exception) -> bool:
    """CUDA has a class of errors for it, MPS and the CPU only words."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _timed_batches(plan: TrialPlan, pipeline: "StableDiffusionPipeline") -> "Iterator[tuple[torch.Tensor, float]]":
    """Pixels of each batch on the CPU, and the seconds that it took; fetching them waits for the device."""
    from shoes.sampling import draw_pixels

    drawings = [_Drawing(prompt, plan.seed + number) for number, prompt in enumerate(plan.prompts)]
    for _ in range(plan.repeats):
        batches = draw_pixels(
            pipeline,
            drawings,
            num_inference_steps=plan.num_inference_steps,
            guidance_scale=plan.guidance_scale,
            negative_prompt=plan.negative_prompt,
            resolution=plan.resolution,
            batch_size=plan.batch_size,
        )
        started = time.perf_counter()
        for batch in batches:
            pixels = batch.cpu()
            now = time.perf_counter()
            yield pixels, now - started
            started = time.perf_counter()


def _judge(plan: TrialPlan, number: int, pixels: "torch.Tensor") -> TrialPicture:
    from shoes.evaluation.gates import judge

    return TrialPicture(
        prompt=plan.prompts[number],
        seed=plan.seed + number,
        file=f"picture-{number + 1}.png",
        verdict=judge(pixels, to_image(pixels)),
    )


def _keep(report: TrialReport, images: "list[Image]") -> None:
    from shoes.evaluation.grid import sample_grid

    titles = [f"{p.prompt}{'' if p.verdict == 'OK' else f' ({p.verdict})'}" for p in report.pictures]
    with new_folder(report.path) as folder:
        for picture, image in zip(report.pictures, images, strict=True):
            image.save(folder / picture.file)
        sample_grid(images, titles, columns=3).save(folder / GRID)
        (folder / REPORT).write_text(pretty_json(report), encoding="utf-8")


def main() -> None:
    """A trial in a process of its own: a plan and a folder as JSON in, the report as JSON out."""
    import json
    import sys

    from shoes.device import limit_memory, measure

    request = json.load(sys.stdin)
    limit_memory(measure())
    try:
        report = run_trial(TrialPlan.model_validate(request["plan"]), Path(request["folder"]))
    except ModelError as error:
        sys.exit("; ".join(f"{problem.where}: {problem.what}" for problem in error.problems))
    sys.stdout.write(report.model_dump_json())


if __name__ == "__main__":
    main()
