"""How the cost of a step grows: in a straight line with the batch, and not at all with the data set.

    python benchmarks/scaling.py [--rounds 30] [--work DIR] [--quick]

Batch: sessions of the demo with effective batches of 1 to 32 take steps in turns, one photo a pass; a line is put
through the medians. Data set: caches of 200 to 200,000 photos of the demo's size (its own, repeated) are put where the
training looks for them; for each a process opens its session, and the processes take steps in turns. The time of a step
is compared within a round with that at 200 photos. Memory is what the process holds for itself and could not give back
(anonymous pages on Linux, the unique set elsewhere); pages of the mapped cache are the system's and can be dropped at
any time. 200,000 photos take 1.7 GB of disk in --work; without it in a temporary folder that is removed. Prints one
JSON line last.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import numpy as np
from speed.arms import Ours
from speed.jobs import Size, open_job

from shoes.device import release
from shoes.storage import MANIFEST, new_folder

BATCHES = (1, 2, 4, 8, 16, 32)
SIZES = (200, 2_000, 20_000, 200_000)
LIMIT = 0.05
"""How far the time of a step may be from that with the smallest data set."""
BATCH, MICRO_BATCH = 16, 8
ROWS_AT_ONCE = 4096


def main() -> None:
    options = arguments()
    if options.child:
        serve(options.child)
        return
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shoes-bench-")))
        by_batch = in_the_batch(work.absolute(), options)
        by_size = in_the_data_set(work.absolute(), options)
    print(json.dumps({"benchmark": "scaling", "batch": by_batch, "data_set": by_size}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--work", type=Path, help="a folder for the caches, to be used again")
    parser.add_argument("--quick", action="store_true", help="4 rounds, batches up to 8, 200 and 20,000 photos")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.batches, options.sizes = (BATCHES[:4], SIZES[:3:2]) if options.quick else (BATCHES, SIZES)
    options.rounds = 4 if options.quick else options.rounds
    return options


def session_in(work: Path, batch: int, micro_batch: int) -> Ours:
    """The demo's session, its caches below `work`."""
    return Ours(*open_job(work, Size("demo", 64, "fp32", batch, micro_batch)))


def in_the_batch(work: Path, options: argparse.Namespace) -> dict[str, object]:
    """Seconds of a step by effective batch, and the line through them."""
    arms = {batch: session_in(work, batch, 1) for batch in options.batches}
    for arm in arms.values():
        arm.step()
    seconds: dict[int, list[float]] = {batch: [] for batch in arms}
    for _ in range(max(3, options.rounds // 3)):
        for batch, arm in arms.items():
            started = time.perf_counter()
            arm.step()
            seconds[batch].append(time.perf_counter() - started)
    medians = {batch: statistics.median(times) for batch, times in seconds.items()}
    return line_through(medians)


def line_through(medians: Mapping[int, float]) -> dict[str, object]:
    batches, times = np.array(list(medians)), np.array(list(medians.values()))
    slope, intercept = np.polyfit(batches, times, 1)
    fitted = intercept + slope * batches
    explained = 1 - ((times - fitted) ** 2).sum() / ((times - times.mean()) ** 2).sum()
    print(f"{'images a step':>14}{'seconds':>10}{'on the line':>13}{'per image':>12}")
    for batch, seconds, on_line in zip(batches, times, fitted, strict=True):
        print(f"{batch:>14}{seconds:>10.4f}{on_line:>13.4f}{seconds / batch:>12.4f}")
    print(f"seconds = {intercept:.4f} + {slope:.4f} × images; R² = {explained:.5f}\n", flush=True)
    return {
        "micro_batch": 1,
        "seconds": {int(batch): round(float(value), 4) for batch, value in medians.items()},
        "seconds_per_image": round(float(slope), 5),
        "seconds_per_step": round(float(intercept), 5),
        "r_squared": round(float(explained), 6),
        "largest_deviation": round(float(np.abs(times / fitted - 1).max()), 4),
    }


def in_the_data_set(work: Path, options: argparse.Namespace) -> dict[str, object]:
    """Time and memory of a step by number of cached photos."""
    folders = {size: enlarged(work, size) for size in options.sizes}
    children = {size: Child(folder) for size, folder in folders.items()}
    try:
        for child in children.values():
            child.wait()
        seconds: dict[int, list[float]] = {size: [] for size in children}
        cpu_seconds: dict[int, list[float]] = {size: [] for size in children}
        for number in range(options.rounds):
            shift = number % len(children)
            order = list(children)[shift:] + list(children)[:shift]
            for size in order:
                took = children[size].ask("step")
                seconds[size].append(took["seconds"])
                cpu_seconds[size].append(took["cpu_seconds"])
        memory = {size: child.ask("memory") for size, child in children.items()}
    finally:
        for child in children.values():
            child.end()
    return comparison(seconds, memory) | {"cpu_seconds": medians_of(cpu_seconds)}


def comparison(seconds: Mapping[int, list[float]], memory: Mapping[int, dict[str, float]]) -> dict[str, object]:
    first = next(iter(seconds))
    ratios = {
        size: [t / base for t, base in zip(times, seconds[first], strict=True)] for size, times in seconds.items()
    }
    medians = {size: statistics.median(found) for size, found in ratios.items()}
    print(f"{'photos':>14}{'seconds':>10}{f'over {first}':>13}{'lowest':>10}{'highest':>10}{'private MB':>13}")
    for size, times in seconds.items():
        spread = f"{min(ratios[size]):>10.3f}{max(ratios[size]):>10.3f}"
        held = memory[size]["private_bytes"] / 1024**2
        print(f"{size:>14,}{statistics.median(times):>10.4f}{medians[size]:>13.4f}{spread}{held:>13.1f}")
    print()
    return {
        "images_per_step": BATCH,
        "micro_batch": MICRO_BATCH,
        "rounds": len(seconds[first]),
        "seconds": medians_of(seconds),
        f"ratio_to_{first}": {size: round(ratio, 4) for size, ratio in medians.items()},
        "ratio_ranges": {size: [round(min(found), 4), round(max(found), 4)] for size, found in ratios.items()},
        "limit": LIMIT,
        "is_within_limit": all(abs(ratio - 1) <= LIMIT for ratio in medians.values()),
        "private_bytes": {size: held["private_bytes"] for size, held in memory.items()},
        "private_growth_bytes": max(held["private_bytes"] - memory[first]["private_bytes"] for held in memory.values()),
        "unique_set_bytes": {size: held["unique_set_bytes"] for size, held in memory.items()},
    }


def medians_of(seconds: Mapping[int, list[float]]) -> dict[int, float]:
    return {size: round(statistics.median(times), 4) for size, times in seconds.items()}


def enlarged(work: Path, size: int) -> Path:
    """A data folder whose training split has `size` cached photos: the demo's own, again and again."""
    folder = work / f"photos-{size}"
    for source in sorted((work / "cache/latents").iterdir()):
        target = folder / "cache/latents" / source.name
        if target.exists():
            continue
        if not _is_training_split(source):
            copytree(source, target)
            continue
        with new_folder(target) as partial:
            _repeat(source, partial, size)
    return folder


def _is_training_split(cache: Path) -> bool:
    """The larger one."""
    sizes = {other: len(np.load(other / "moments.npy", mmap_mode="r")) for other in cache.parent.iterdir()}
    return sizes[cache] == max(sizes.values())


def _repeat(source: Path, target: Path, size: int) -> None:
    """Arrays with a row for each photo, brought to `size` photos; the rest as it is."""
    num_photos = len(np.load(source / "moments.npy", mmap_mode="r"))
    for file in source.glob("*.json"):
        if file.name != MANIFEST:
            copy(file, target)
    for file in sorted(source.glob("*.npy")):
        rows = np.load(file, mmap_mode="r")
        count = size if len(rows) == num_photos else len(rows)
        out = np.lib.format.open_memmap(target / file.name, mode="w+", dtype=rows.dtype, shape=(count, *rows.shape[1:]))
        for start in range(0, count, ROWS_AT_ONCE):
            chosen = np.arange(start, min(start + ROWS_AT_ONCE, count)) % len(rows)
            out[start : start + len(chosen)] = rows[chosen]
        out.flush()


class Child:
    """A process that holds one session and does what it is told."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, __file__, "--child", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a session could not be opened on a cache made larger: see above")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, word: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        return self.wait()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(folder: Path) -> None:
    """Open the session of a data folder, take two steps, and then what is asked for on standard input."""
    arm = session_in(folder, BATCH, MICRO_BATCH)
    for _ in range(2):
        arm.step()
    print(json.dumps({"photos": len(arm.session.train)}), flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(json.dumps(held()), flush=True)
            continue
        started, worked = time.perf_counter(), time.process_time()
        arm.step()
        took = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - worked}
        print(json.dumps(took), flush=True)


def held() -> dict[str, int]:
    """Memory of this process: what is its own and can't be dropped, and its unique set with the mapped files."""
    import psutil

    release("cpu")  # what is free and not given back yet is not held
    unique = int(psutil.Process().memory_full_info().uss)
    status = Path("/proc/self/status")
    if not status.exists():
        return {"private_bytes": unique, "unique_set_bytes": unique}
    sizes = dict(line.split(":", 1) for line in status.read_text().splitlines())
    private = sum(int(sizes[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap"))
    return {"private_bytes": private, "unique_set_bytes": unique}


if __name__ == "__main__":
    main()
