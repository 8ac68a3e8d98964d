"""Training the full-size model on a CUDA GPU: images a second, use of the GPU, and memory, by micro-batch.

    python benchmarks/cuda_speed.py --peak-tflops 989 [--resolution 512] [--precision bf16] [--batch 32] [--rounds 5]
        [--catalogue DIR] [--work DIR] [--quick]

Ours with micro-batches of 1 to 32 and the usual recipe with two photos a pass take steps of the same effective batch;
see training_speed.py for what they are. --peak-tflops is what the GPU's maker names for dense matrix products in this
precision: 312 for an A100 in bf16, 989 for an H100 SXM. Model FLOP utilisation is what a step needs at least, over what
the GPU could do in its time: 1.73 TFLOP for a photo of 512 px (the UNet forward, and backward without gradients of
frozen weights), less than which no recipe needs, so that encoding and recomputing do not count as work. It grows with
the number of pixels; the part that grows faster, self-attention, is left out. Memory is the most that tensors took.
Prints one JSON line last; nothing is measured where there is no CUDA device.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path

from speed.arms import Arm, Ours, Usual
from speed.jobs import Size, open_job
from training_speed import work_folder

MICRO_BATCHES = (1, 2, 4, 8, 16, 32)
TFLOP_PER_IMAGE = 1.73
"""Forward and backward of the LoRA training of one photo of 512 px."""
Row = dict[str, float | str | None]


def main() -> None:
    import torch

    options = arguments()
    if not torch.cuda.is_available():
        print(json.dumps({"benchmark": "cuda_speed", "skipped": "no CUDA device"}))
        return
    with work_folder(options.work) as options.work:
        rows = [row_of("usual", 2, options)]
        print_row(rows[0])
        for size in options.micro_batches:
            rows.append(row_of("ours", size, options))
            print_row(rows[-1])
    print(json.dumps(figures(rows, options, torch.cuda.get_device_name())))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peak-tflops", type=float, help="of the GPU in this precision; without it no utilisation")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16")
    parser.add_argument("--batch", type=int, default=32, help="images in one step")
    parser.add_argument("--rounds", type=int, default=5, help="steps that are timed, after two that are not")
    parser.add_argument("--catalogue", type=Path, default=os.environ.get("CATALOGUE"))
    parser.add_argument("--work", type=Path, help="a folder for the model and photos, to be used again")
    parser.add_argument("--quick", action="store_true", help="micro-batches of 1 and 8, two steps at 256 px")
    options = parser.parse_args()
    options.micro_batches = [size for size in MICRO_BATCHES if size <= options.batch]
    if options.quick:
        options.micro_batches, options.rounds, options.resolution = [1, 8], 2, 256
    return options


def row_of(name: str, micro_batch: int, options: argparse.Namespace) -> Row:
    """One way of training, measured; without figures where it does not fit."""
    import torch

    row: Row = {"arm": name, "micro_batch": micro_batch, "images_per_second": None, "mfu": None, "peak_bytes": None}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        seconds = step_seconds(open_arm(name, micro_batch, options), options.rounds)
    except torch.OutOfMemoryError:
        return row
    rate = options.batch / seconds
    row |= {"images_per_second": round(rate, 2), "peak_bytes": torch.cuda.max_memory_allocated()}
    if options.peak_tflops:
        row["mfu"] = round(rate * TFLOP_PER_IMAGE * (options.resolution / 512) ** 2 / options.peak_tflops, 4)
    return row


def open_arm(name: str, micro_batch: int, options: argparse.Namespace) -> Arm:
    size = Size("full", options.resolution, options.precision, options.batch, micro_batch, device="cuda")
    job, decisions = open_job(options.work, size, options.catalogue)
    return Ours(job, decisions) if name == "ours" else Usual(job, decisions, micro_batch=micro_batch)


def step_seconds(arm: Arm, rounds: int) -> float:
    """Median of some steps; each ends when its loss has been read, and so with the GPU's work."""
    import torch

    times = []
    for _ in range(2 + rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        loss = arm.step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        if not math.isfinite(loss):
            sys.exit(f"void: the loss is {loss}")
    return statistics.median(times[2:])


def print_row(row: Row) -> None:
    if row["images_per_second"] is None:
        print(f"{row['arm']:<6} micro-batch {row['micro_batch']:>3}  does not fit", flush=True)
        return
    used = f"{row['mfu']:.1%} of the peak" if row["mfu"] else ""
    held = f"{float(row['peak_bytes'] or 0) / 1024**3:6.2f} GB"
    print(
        f"{row['arm']:<6} micro-batch {row['micro_batch']:>3}  {row['images_per_second']:8.2f} images/s  {held}  {used}"
    )
    sys.stdout.flush()


def figures(rows: list[Row], options: argparse.Namespace, device: str) -> dict[str, object]:
    rates = [float(row["images_per_second"] or 0) for row in rows]
    return {
        "benchmark": "cuda_speed",
        "device": device,
        "resolution": options.resolution,
        "precision": options.precision,
        "images_per_step": options.batch,
        "peak_tflops": options.peak_tflops,
        "rows": rows,
        "best_over_usual": round(max(rates[1:]) / rates[0], 3) if rates[0] else None,
    }


if __name__ == "__main__":
    main()
