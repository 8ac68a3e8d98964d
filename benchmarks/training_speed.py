"""The time of our optimizer step over that of the bare computation, and over that of the usual recipe.

    python benchmarks/training_speed.py [--model full|demo] [--resolution 256] [--precision bf16] [--memory]
        [--catalogue DIR] [--batch N] [--micro-batch N] [--usual-batch N] [--rounds N] [--fp32-rounds N] [--work DIR]
        [--quick]

    ours         a session as `shoes train` opens it: latents and text cached, nothing computed again
    bare         the UNet forward and backward and AdamW alone, on tensors of the same shapes that are there already;
                 the same frozen base, the same adapter
    usual        the recipe of diffusers' train_text_to_image_lora.py, two photos a pass (--usual-batch):
                 read, encoded by the VAE and the text encoder every time, gradient checkpointing everywhere
    usual_fp32   the same in fp32, as the author of the first write-up trained; how much of that ratio is the machine's
                 is said beside it: what the lower precision alone makes of the usual recipe

`full` is Stable Diffusion 1.5 in its full size with random weights, `demo` the model that ships with the project. On
the CPU, in one process, all arms take one step of the same effective batch in turns; a ratio is the median over the
rounds of the ratio within a round. With --memory, each arm takes two steps in a process of its own, whose memory is
watched. Photos are those of the downloaded catalogue (--catalogue or CATALOGUE), else the demo's enlarged. A loss that
is not finite makes all of it void. The model is made once, in --work; without it in a temporary folder that is removed.
Prints one JSON line last.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from speed.arms import Arm, Bare, Ours, Usual
from speed.jobs import Size, open_job

LIMITS = {
    "full": {"ours/bare": 1.05, "ours/usual": 0.52, "ours/usual_fp32": 0.2},
    "demo": {"ours/usual": 0.35},
}
"""What is claimed of each model."""
DEFAULTS = {"full": ("bf16", 4), "demo": ("fp32", 16)}
"""Precision and images per step."""
Seconds = dict[str, list[float]]


def main() -> None:
    options = arguments()
    with work_folder(options.work) as options.work:
        if options.arm:
            print(json.dumps(memory_of(options.arm, options)))
            return
        figures = measure(options)
    print(json.dumps(figures))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=("full", "demo"), default="full")
    parser.add_argument("--resolution", type=int, default=256, help="of the full-size model; the demo's is 64")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="bf16; fp32 for the demo")
    parser.add_argument("--batch", type=int, help="images in one step: 4; 16 for the demo")
    parser.add_argument("--micro-batch", type=int, help="of ours and the bare one; all of the batch by default")
    parser.add_argument("--usual-batch", type=int, help="photos in a pass of the usual recipe (2)")
    parser.add_argument("--rounds", type=int, help="8; 3 at 512 px; 40 for the demo")
    parser.add_argument("--fp32-rounds", type=int, help="of these, how many with the usual recipe in fp32 (3; 1)")
    parser.add_argument("--memory", action="store_true", help="measure the peak memory of each arm as well")
    parser.add_argument("--catalogue", type=Path, default=os.environ.get("CATALOGUE"))
    parser.add_argument("--work", type=Path, help="a folder for the model and photos, to be used again")
    parser.add_argument("--quick", action="store_true", help="the demo's model, 6 rounds")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    return completed(parser.parse_args())


def completed(options: argparse.Namespace) -> argparse.Namespace:
    """The options with all that follows from the others."""
    if options.quick:
        options.model, options.rounds = "demo", 6
    is_demo = options.model == "demo"
    options.resolution = 64 if is_demo else options.resolution
    precision, batch = DEFAULTS[options.model]
    options.precision, options.batch = options.precision or precision, options.batch or batch
    options.micro_batch = options.micro_batch or options.batch
    options.usual_batch = options.usual_batch or 2
    if options.batch % options.micro_batch or options.batch % options.usual_batch:
        sys.exit("--batch must be a multiple of --micro-batch and of --usual-batch")
    options.rounds = options.rounds or (40 if is_demo else 8 if options.resolution < 512 else 3)
    most_fp32 = 0 if options.precision == "fp32" else 3 if options.resolution < 512 else 1
    wanted = most_fp32 if options.fp32_rounds is None else options.fp32_rounds
    options.fp32_rounds = 0 if is_demo else min(options.rounds, wanted)
    return options


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="shoes-bench-") as folder:
        yield Path(folder)


def measure(options: argparse.Namespace) -> dict[str, object]:
    arms = {name: open_arm(name, options) for name in arm_names(options)}
    first = {name: finite(name, arm.step()) for name, arm in arms.items()}  # also warms up
    seconds, cpu_seconds = timed(arms, options)
    del arms
    memory = {name: memory_in_child(name, options) for name in first} if options.memory else {}
    cpu = {"cpu_seconds_per_step": {name: round(statistics.median(t), 4) for name, t in cpu_seconds.items()}}
    return report(options, seconds, memory, first) | cpu


def arm_names(options: argparse.Namespace) -> list[str]:
    return ["ours", "bare", "usual", *(["usual_fp32"] if options.fp32_rounds else [])]


def open_arm(name: str, options: argparse.Namespace) -> Arm:
    precision = "fp32" if name == "usual_fp32" else options.precision
    size = Size(options.model, options.resolution, precision, options.batch, options.micro_batch)
    job, decisions = open_job(options.work, size, options.catalogue)
    usual = partial(Usual, micro_batch=options.usual_batch)
    kinds: dict[str, Callable[..., Arm]] = {"ours": Ours, "bare": Bare, "usual": usual, "usual_fp32": usual}
    return kinds[name](job, decisions)


def finite(name: str, loss: float) -> float:
    if not math.isfinite(loss):
        sys.exit(f"void: the loss of {name} is {loss}")
    return loss


def timed(arms: dict[str, Arm], options: argparse.Namespace) -> tuple[Seconds, Seconds]:
    """Seconds of each arm's step, round by round, on the clock and of the CPU; each round begins with another arm."""
    seconds: Seconds = {name: [] for name in arms}
    cpu_seconds: Seconds = {name: [] for name in arms}
    for number in range(options.rounds):
        names = [name for name in arms if name != "usual_fp32" or number < options.fp32_rounds]
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            started, worked = time.perf_counter(), time.process_time()
            loss = arms[name].step()
            seconds[name].append(time.perf_counter() - started)
            cpu_seconds[name].append(time.process_time() - worked)
            finite(name, loss)
        told = ", ".join(f"{name} {seconds[name][-1]:.2f} s" for name in names)
        if sys.stderr.isatty() or options.model == "full":
            print(f"round {number + 1} of {options.rounds}: {told}", file=sys.stderr, flush=True)
    return seconds, cpu_seconds


def memory_in_child(name: str, options: argparse.Namespace) -> int:
    """Peak memory of one arm, in a process that holds nothing else."""
    flags = {
        "--model": options.model,
        "--resolution": options.resolution,
        "--precision": options.precision,
        "--batch": options.batch,
        "--micro-batch": options.micro_batch,
        "--fp32-rounds": 1,
        "--work": options.work,
        "--arm": name,
    }
    words = [str(word) for pair in flags.items() for word in pair]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the memory of {name} could not be measured:\n{done.stderr[-2000:]}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def memory_of(name: str, options: argparse.Namespace) -> dict[str, int]:
    """What two steps of an arm take above the libraries, its weights included."""
    from shoes.device import watch_memory
    from shoes.model.load import load_libraries

    load_libraries()
    with watch_memory("cpu") as watch:
        arm = open_arm(name, options)
        for _ in range(2):
            finite(name, arm.step())
    return {"peak_bytes": watch.growth_bytes}


def ratios_of(seconds: Seconds, model: str) -> dict[str, dict[str, object]]:
    """Ours over each other arm: median, least and most of the ratios within a round, and what is claimed."""
    found: dict[str, dict[str, object]] = {}
    for other in seconds.keys() - {"ours"}:
        name = f"ours/{other}"
        ratios = [ours / theirs for ours, theirs in zip(seconds["ours"], seconds[other], strict=False)]
        limit = LIMITS[model].get(name)
        found[name] = {
            "median": round(statistics.median(ratios), 4),
            "min": round(min(ratios), 4),
            "max": round(max(ratios), 4),
            "limit": limit,
            "is_within_limit": None if limit is None else statistics.median(ratios) <= limit,
        }
    return dict(sorted(found.items()))


def gain_of_precision(seconds: Seconds) -> float | None:
    """The usual recipe in fp32 over the same in the lower precision: the processor's part of ours/usual_fp32."""
    if "usual_fp32" not in seconds:
        return None
    return round(statistics.median(f / u for f, u in zip(seconds["usual_fp32"], seconds["usual"], strict=False)), 2)


def report(
    options: argparse.Namespace, seconds: Seconds, memory: dict[str, int], losses: dict[str, float]
) -> dict[str, object]:
    import torch

    ratios = ratios_of(seconds, options.model)
    print(f"\n{options.model} model, {options.resolution} px, {options.batch} images a step\n")
    print(f"{'':<12}{'seconds a step':>16}{'ours over it':>15}{'lowest':>9}{'highest':>9}{'claimed':>10}{'memory':>11}")
    for name, times in seconds.items():
        ratio = ratios.get(f"ours/{name}", {})
        line = "".join(
            f"{ratio[key]:>{width}.3f}" if ratio.get(key) else " " * width
            for key, width in (("median", 15), ("min", 9), ("max", 9))
        )
        limit = f"≤ {ratio['limit']}" if ratio.get("limit") else ""
        held = f"{memory[name] / 1024**3:.2f} GB" if name in memory else ""
        print(f"{name:<12}{statistics.median(times):>16.3f}{line or ' ' * 33}{limit:>10}{held:>11}")
    gain = gain_of_precision(seconds)
    print(f"\nThe usual recipe itself is {gain} times as fast in {options.precision} here.\n" if gain else "")
    return {
        "benchmark": "training_speed",
        "model": options.model,
        "resolution": options.resolution,
        "images_per_step": options.batch,
        "micro_batch": options.micro_batch,
        "usual_micro_batch": options.usual_batch,
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "photos": "catalogue" if options.catalogue and options.model == "full" else "demo",
        "rounds": {name: len(times) for name, times in seconds.items()},
        "seconds_per_step": {name: round(statistics.median(times), 4) for name, times in seconds.items()},
        "ratios": ratios,
        "gain_of_precision": gain,
        "peak_memory_bytes": memory,
        "first_losses": {name: round(loss, 4) for name, loss in losses.items()},
    }


if __name__ == "__main__":
    main()
