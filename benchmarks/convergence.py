"""Fewer images for the same quality: which options reach the baseline's held-out loss with how much less compute?

    python benchmarks/convergence.py [--data demo,real] [--catalogue DIR] [--variants NAME,…] [--seeds 1,2,3]
                                     [--images 1280] [--jobs 2] [--work DIR] [--results FILE] [--report] [--quick]

Every variant trains the demo's recipe from the demo's base model, for the same number of images, with the same seeds,
and is looked at every 256 images: unweighted loss on 32 photos of the validation split at eight timesteps with the
same noise for all. The baseline's lowest loss with a seed is what the variants with that seed have to reach; between
two looks a straight line is assumed. FLOPs are counted, not timed. The weights of the lowest loss are measured on 32
photos of the test split, which nothing is chosen by.

Variants may be joined and shortened: `min-snr+stratified`, `loraplus@0.5` (half of the images, the schedule with them).
`real` are the catalogue's 600 photos of casual shoes. One JSON object a training is appended to --results, and those
that are there are not done again. `--report` only reads them. Prints one JSON line last.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shoes import recipes, stages
from shoes.cli.command import start_logging
from shoes.settings import load_settings
from shoes.spec import Recipe, TrainSpec
from shoes.storage import fingerprint
from shoes.training import lora
from shoes.training.cache import LatentCache, open_cache
from shoes.training.objective import held_out_losses
from shoes.training.randomness import derive_seed, sample_order
from shoes.training.run import Decisions, Job, make_job
from shoes.training.session import Session, cache_key, new_session
from shoes.training.step import draw, take_step

RESULTS = Path(__file__).with_suffix(".results.jsonl")
IMAGES, IMAGES_BETWEEN_LOOKS, HELD_OUT_PHOTOS, HELD_OUT_SEED = 1280, 256, 32, 0
DECISIONS = Decisions(device="cpu", precision="no", num_threads=1, reasons={}, micro_batch=8)
ATTENTION = ("to_k", "to_q", "to_v", "to_out.0")
Changes = dict[str, Any]


def batch_of(spec: TrainSpec, size: int) -> Changes:
    """The same images in smaller batches; the learning rate goes with the square root of the batch."""
    factor = spec.effective_batch_size // size
    return {
        "train_batch_size": size,
        "gradient_accumulation_steps": 1,
        "learning_rate": spec.learning_rate * factor**-0.5,
        "lr_warmup_steps": spec.lr_warmup_steps * factor,
        "max_train_steps": spec.max_train_steps * factor,
    }


VARIANTS: dict[str, Changes | Callable[[TrainSpec], Changes]] = {
    "baseline": {},
    "batch4": lambda spec: batch_of(spec, 4),
    "batch8": lambda spec: batch_of(spec, 8),
    "min-snr": {"snr_gamma": 5.0},
    "stratified": {"timestep_sampling": "stratified"},
    "offset": {"noise_offset": 0.05},
    "caption-dropout": {"caption_dropout": 0.1},
    # half the rate for the A matrices, as the authors of LoRA+ advise
    "loraplus": lambda spec: {"loraplus_lr_ratio": 16.0, "learning_rate": spec.learning_rate / 2},
    # the same alpha, so that the update is scaled by √8 = 2.8 instead of 1
    "rslora": {"use_rslora": True},
    "feed-forward": {"lora_target_modules": (*ATTENTION, "ff.net.0.proj", "ff.net.2")},
    "ema": {"use_ema": True},
    "flip": {"random_flip": True},
    "constant": {"lr_scheduler": "constant_with_warmup"},
    # not among those that are run by default
    "batch2": lambda spec: batch_of(spec, 2),
    "half-rate": lambda spec: {"learning_rate": spec.learning_rate / 2},
    "double-rate": lambda spec: {"learning_rate": spec.learning_rate * 2},
    # the geometric mean of both rates is the baseline's
    "loraplus-even": lambda spec: {"loraplus_lr_ratio": 16.0, "learning_rate": spec.learning_rate / 4},
}
USUAL = tuple(VARIANTS)[:13]


@dataclass(frozen=True)
class Training:
    """One training to do."""

    data: str
    variant: str
    seed: int
    images: int
    job: Job
    """With the variant's spec."""
    base: tuple[float, float]
    """Loss before the training, which is the base's, on the validation and the test split."""

    @property
    def key(self) -> str:
        """All that decides its figures."""
        protocol = (HELD_OUT_PHOTOS, HELD_OUT_SEED, IMAGES_BETWEEN_LOOKS)
        return fingerprint(self.job.spec, self.job.model.fingerprint, self.job.inputs, protocol)


@dataclass(frozen=True)
class Result:
    """What a training gave."""

    key: str
    data: str
    variant: str
    seed: int
    budget: int
    images: list[int]
    """Seen at each look, from 0 on."""
    held_out: list[float]
    """Loss at each look, on the validation split."""
    test: list[float]
    """On the test split: of the base, and of the weights with the lowest held-out loss."""
    gigaflops_per_image: float
    """Forward and backward."""

    @property
    def best(self) -> float:
        return min(self.held_out)

    @property
    def images_to_best(self) -> float:
        return float(self.images[self.held_out.index(self.best)])

    def images_to(self, target: float) -> float | None:
        """Images until the loss was as low as `target`; None: it never was."""
        for number, loss in enumerate(self.held_out):
            if loss <= target:
                if number == 0:
                    return 0.0
                (x0, y0), (x1, y1) = ((self.images[n], self.held_out[n]) for n in (number - 1, number))
                return x0 + (x1 - x0) * (y0 - target) / (y0 - y1)
        return None


def main() -> None:
    options = arguments()
    start_logging()
    if not options.report:
        os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that are started
        with tempfile.TemporaryDirectory(prefix="shoes-bench-") as folder:
            os.environ["SHOES_DATA_DIR"] = str((options.work or Path(folder)).absolute())
            run(trainings(options), options)
    results = read_results(options.results)
    found = {data: compared(results, data) for data in dict.fromkeys(result.data for result in results)}
    for data, rows in found.items():
        print("\n".join(table(data, rows)))
    print(json.dumps({"benchmark": "convergence", **found}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="demo", help="demo, real, or both with a comma")
    parser.add_argument("--catalogue", type=Path, default=os.environ.get("CATALOGUE"))
    parser.add_argument("--variants", default=",".join(USUAL), help=f"of {', '.join(VARIANTS)}; joined by +")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, each with one thread")
    parser.add_argument("--work", type=Path, help="a folder for the imported photos and caches, to be used again")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--report", action="store_true", help="print what --results holds; nothing is trained")
    parser.add_argument("--quick", action="store_true", help="two variants, one seed, few images; not kept")
    options = parser.parse_args()
    if options.quick:
        options.variants, options.seeds, options.images = "baseline,min-snr+batch8", "1", 2 * IMAGES_BETWEEN_LOOKS
        options.results = options.results or Path(tempfile.mkdtemp(prefix="shoes-bench-")) / "results.jsonl"
    options.results = options.results or RESULTS
    if "real" in options.data.split(",") and not options.catalogue and not options.report:
        parser.error("name the catalogue: --catalogue DIR or the variable CATALOGUE")
    unknown = {name for name in names_of(options.variants) if name not in VARIANTS}
    if unknown:
        parser.error(f"no variant {', '.join(sorted(unknown))}; known are {', '.join(VARIANTS)}")
    least = min(float(variant.partition("@")[2] or 1) for variant in options.variants.split(",")) * options.images
    if least < IMAGES_BETWEEN_LOOKS:
        parser.error(f"{least:.0f} images are too few: no training may be shorter than {IMAGES_BETWEEN_LOOKS}")
    return options


def names_of(variants: str) -> list[str]:
    return [name for variant in variants.split(",") for name in variant.partition("@")[0].split("+")]


def trainings(options: argparse.Namespace) -> Iterator[Training]:
    """What is asked for, all variants of a seed before the next seed."""
    jobs = {data: job_of(data, options) for data in options.data.split(",")}
    bases = {data: base_losses(job) for data, job in jobs.items()}
    for seed in options.seeds.split(","):
        for data, job in jobs.items():
            for variant in options.variants.split(","):
                spec = spec_of(job.spec, variant, int(seed), options.images)
                yield Training(data, variant, int(seed), options.images, replace(job, spec=spec), bases[data])


def job_of(data: str, options: argparse.Namespace) -> Job:
    """The demo's training on one of the data sets, which is imported where it was not."""
    recipe = recipe_of(data, options.catalogue)
    models, prepared, settings = stages.fetch_model(recipe), stages.prepare_data(recipe), load_settings()
    return make_job(recipe, models.base, prepared, runs=settings.runs, cache=settings.cache)


def base_losses(job: Job) -> tuple[float, float]:
    """Of the base model; makes the caches, which the trainings share."""
    job = replace(job, spec=job.spec.model_copy(update={"random_flip": True}))
    train, validation, test = caches(job)
    session = new_session(job, DECISIONS, train, validation)
    return held_out(session, validation), held_out(session, test)


def caches(job: Job) -> tuple[LatentCache, LatentCache, LatentCache]:
    """Training, validation and test split; they are made where they are not there."""
    own, validation = (cache_key(job, "cpu", which) for which in (0, 1))
    test = replace(validation, split=validation.split.with_name("test"))
    made = (open_cache(key, batch_size=16, on_progress=lambda *_: None) for key in (own, validation, test))
    return next(made), next(made), next(made)


def recipe_of(data: str, catalogue: Path | None) -> Recipe:
    if data == "demo":
        return recipes.load("demo", {})
    source = {"data.source": str(Path(catalogue or "").absolute())}
    return recipes.load(str(Path(__file__).with_name("real_photos.toml")), source)


def spec_of(spec: TrainSpec, variant: str, seed: int, images: int) -> TrainSpec:
    """The recipe's training of so many images, with the variant's options."""
    names, _, share = variant.partition("@")
    steps = int(images * float(share or 1)) // spec.effective_batch_size
    spec = spec.model_copy(update={"seed": seed, "max_train_steps": steps, "early_stopping_patience": None})
    for name in names.split("+"):
        change = VARIANTS[name]
        changes = change(spec) if callable(change) else change
        spec = TrainSpec.model_validate({**spec.model_dump(), **changes})
    return spec


def run(wanted: Iterator[Training], options: argparse.Namespace) -> None:
    """Do the trainings that have no result yet, and append each as it ends."""
    known = {result.key for result in read_results(options.results)}
    missing = [training for training in wanted if training.key not in known]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=options.jobs, mp_context=spawn) as pool:
        futures = [pool.submit(train, training) for training in missing]
        for number, future in enumerate(as_completed(futures), start=1):
            result = future.result()
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result)) + "\n")
            print(
                f"{number}/{len(futures)}  {result.data}  {result.variant}  seed {result.seed}: "
                f"{result.best:.5f} after {result.images_to_best:.0f} images, {result.held_out[0]:.5f} before",
                flush=True,
            )


def read_results(file: Path) -> list[Result]:
    """The newest result of each training."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    results = [Result(**json.loads(line)) for line in lines]
    return list({(r.data, r.variant, r.seed, r.budget): r for r in results}.values())


def train(training: Training) -> Result:
    """One training, in a process with one thread."""
    import torch

    torch.set_num_threads(1)
    own, validation, test = caches(training.job)
    session = new_session(training.job, DECISIONS, own, validation)
    spec = training.job.spec
    images, losses = [0], [training.base[0]]
    best = lora.adapter_weights(session.objective.unet)
    while session.step < spec.max_train_steps:
        take_step(session)
        seen = session.step * spec.effective_batch_size
        if seen % IMAGES_BETWEEN_LOOKS == 0 or session.step == spec.max_train_steps:
            with session.as_exported():
                images, losses = [*images, seen], [*losses, held_out(session, validation)]
                if losses[-1] == min(losses):
                    best = lora.adapter_weights(session.objective.unet)
    lora.set_adapter_weights(session.objective.unet, best)
    return Result(
        key=training.key,
        data=training.data,
        variant=training.variant,
        seed=training.seed,
        budget=training.images,
        images=images,
        held_out=losses,
        test=[training.base[1], held_out(session, test)],
        gigaflops_per_image=gigaflops_per_image(session),
    )


def held_out(session: Session, cache: LatentCache) -> float:
    """Mean loss on the same photos, noise and timesteps whatever the training's seed."""
    count = min(HELD_OUT_PHOTOS, len(cache))
    photos = sample_order(derive_seed(HELD_OUT_SEED, "photos"), 0, batch=count, num_samples=len(cache))
    return float(held_out_losses(session.objective, cache, photos, seed=HELD_OUT_SEED, batch_size=32).mean())


def gigaflops_per_image(session: Session) -> float:
    """Counted in one forward and backward pass of the training."""
    from torch.utils.flop_counter import FlopCounterMode

    order, draws = draw(session)
    with FlopCounterMode(display=False) as counter:
        batch = session.objective.batch(session.train, order, draws, slice(0, 1))
        session.objective.training_losses(batch).mean().backward()
    return round(counter.get_total_flops() / 1e9, 4)


def compared(results: Sequence[Result], data: str) -> list[Mapping[str, Any]]:
    """Each variant beside the baseline with the same seed and budget: median, lowest and highest over the seeds."""
    mine = [result for result in results if result.data == data]
    baselines = {(r.seed, r.budget): r for r in mine if r.variant == "baseline"}
    rows = []
    for variant in dict.fromkeys(result.variant for result in mine):
        pairs = [
            (r, baselines[r.seed, r.budget]) for r in mine if r.variant == variant and (r.seed, r.budget) in baselines
        ]
        if pairs:
            rows.append({"variant": variant, **compare(pairs)})
    return sorted(rows, key=lambda row: row["flops_share"][0] if row["flops_share"] else 9)


def compare(pairs: Sequence[tuple[Result, Result]]) -> Mapping[str, Any]:
    reached = [(result.images_to(base.best), result, base) for result, base in pairs]
    shares = [images / base.images_to_best for images, _, base in reached if images is not None]
    flops = [pairs[0][0].gigaflops_per_image / pairs[0][1].gigaflops_per_image * share for share in shares]
    is_typical = len(shares) * 2 > len(pairs)  # a median over those that got there alone would flatter
    return {
        "seeds": len(pairs),
        "reached": len(shares),
        "images_share": spread(shares, 3) if is_typical else None,
        "flops_share": spread(flops, 3) if is_typical else None,
        "best_loss": spread([result.best for result, _ in pairs], 5),
        "best_after_images": spread([result.images_to_best for result, _ in pairs], 0),
        "best_loss_difference": spread([result.best - base.best for result, base in pairs], 5),
        "test_loss_difference": spread([result.test[1] - base.test[1] for result, base in pairs], 5),
    }


def spread(values: Sequence[float], digits: int) -> list[float]:
    """Median, lowest, highest."""
    return [round(value, digits) for value in (statistics.median(values), min(values), max(values))]


def table(data: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """For people; differences are of the loss, times 10,000."""
    yield f"\n{data}: against the baseline with the same seed; median (lowest … highest)\n"
    form = "{:<26}{:>8}{:>24}{:>24}{:>28}{:>12}{:>24}{:>24}"
    yield form.format(
        "variant",
        "reached",
        "images to its best",
        "FLOPs to its best",
        "best loss",
        "at images",
        "loss, 1e-4",
        "test, 1e-4",
    )
    for row in rows:
        yield form.format(
            row["variant"],
            f"{row['reached']}/{row['seeds']}",
            in_words(row["images_share"], "{:.2f}"),
            in_words(row["flops_share"], "{:.2f}"),
            in_words(row["best_loss"], "{:.4f}"),
            f"{row['best_after_images'][0]:.0f}",
            in_words(row["best_loss_difference"], "{:+.1f}", 1e4),
            in_words(row["test_loss_difference"], "{:+.1f}", 1e4),
        )


def in_words(values: Sequence[float] | None, form: str, scale: float = 1) -> str:
    if values is None:
        return "–"
    median, low, high = (form.format(scale * value) for value in values)
    return f"{median} ({low} … {high})"


if __name__ == "__main__":
    main()
