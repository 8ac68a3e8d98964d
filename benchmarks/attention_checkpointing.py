"""What does gradient checkpointing save, and what does it cost, where attention scores are materialised?

    python benchmarks/attention_checkpointing.py [--resolution 512] [--precision no|bf16] [--rounds 5] [--quick]

Forward and backward through a UNet of Stable Diffusion 1.5's full size, with random weights and the recipes' own
adapter, by PyTorch's math attention, which is what MPS computes: off, attention and full. Memory is how far the peak of
a pass lies above the loaded model, in a process of its own for each. Time is taken by turns in one process: each mode's
pass is compared with that of `off` in the same round, and the median of these ratios counts. Prints a table, then one
JSON line: `saved_of_full`, the share of full's saving that attention has (0.5 or more), and `time_over_off` (1.12 or
less). `--quick` takes the demo's model with 16 images of 64 px, where attention is little of the memory and much of the
time: nothing is claimed for it.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

MODES = ("off", "attention", "full")
MEGABYTE = 1024**2
DEMO = Path(__file__).parents[1] / "data/demo/model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resolution", type=int, help="512; with --quick the demo's 64")
    parser.add_argument("--batch", type=int, help="images in a pass: 1; with --quick 16")
    parser.add_argument("--precision", choices=["no", "bf16"], default="no")
    parser.add_argument("--rounds", type=int, help="5; with --quick 3")
    parser.add_argument("--quick", action="store_true", help="the demo's model")
    parser.add_argument("--memory", choices=MODES, help=argparse.SUPPRESS)  # what the processes are started with
    parser.add_argument("--times", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.resolution = options.resolution or (64 if options.quick else 512)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.batch = options.batch or (16 if options.quick else 1)
    if options.memory or options.times:
        print(json.dumps(peak_bytes(options) if options.memory else seconds_by_round(options)))
        return
    sizes = {mode: in_a_process("--memory", mode) for mode in MODES}
    rounds = in_a_process("--times")
    print(table(sizes, rounds))
    print(json.dumps(figures(options, sizes, rounds)))


def in_a_process(*words: str) -> Any:
    """This program again, for one measurement; what it printed last."""
    command = [sys.executable, __file__, *sys.argv[1:], *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_bytes(options: argparse.Namespace) -> int:
    """How far the peak of a pass lies above the loaded model."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from shoes.device import release, watch_memory
    from shoes.training.attention import apply_checkpointing

    unet, work = prepared(options)
    with sdpa_kernel(SDPBackend.MATH):
        apply_checkpointing(unet, options.memory)
        one_pass(unet, 1, 8, options.precision)()  # what the libraries take once is no part of it
        release("cpu")
        with watch_memory("cpu") as watch:
            work()
    return watch.growth_bytes


def seconds_by_round(options: argparse.Namespace) -> list[dict[str, float]]:
    """Seconds of a pass in each mode, by turns, after a round to warm up."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from shoes.training.attention import apply_checkpointing
    from shoes.training.measuring import timed

    unet, work = prepared(options)
    rounds: list[dict[str, float]] = []
    with sdpa_kernel(SDPBackend.MATH):
        for _ in range(1 + options.rounds):
            rounds.append({})
            for mode in MODES:
                apply_checkpointing(unet, mode)
                rounds[-1][mode] = timed(work)[1]
    return rounds[1:]


def prepared(options: argparse.Namespace) -> "tuple[UNet2DConditionModel, Callable[[], None]]":
    unet = demo_unet(options.precision) if options.quick else full_size_unet(options.precision)
    return unet, one_pass(unet, options.batch, latent_side(unet, options.resolution), options.precision)


def full_size_unet(precision: str) -> "UNet2DConditionModel":
    """Stable Diffusion 1.5's shape, random weights, with a fresh adapter."""
    import torch
    from diffusers import UNet2DConditionModel

    from shoes.device import torch_dtype
    from shoes.spec import TrainSpec
    from shoes.training.lora import add_adapter

    torch.manual_seed(0)
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    unet = unet.to(torch_dtype(precision)).to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter.normal_(0, 0.02)
    add_adapter(unet, TrainSpec())
    return unet


def demo_unet(precision: str) -> "UNet2DConditionModel":
    """The shipped tiny model, with a fresh adapter."""
    from shoes.spec import TrainSpec
    from shoes.training.lora import load_with_adapter

    return load_with_adapter(DEMO, TrainSpec(), device="cpu", precision=precision, checkpointing="off")


def latent_side(unet: "UNet2DConditionModel", resolution: int) -> int:
    """Latents of the demo's model are a quarter as wide as its pictures, Stable Diffusion's an eighth."""
    return resolution // (4 if unet.config.sample_size == 16 else 8)


def one_pass(unet: "UNet2DConditionModel", batch: int, side: int, precision: str) -> Callable[[], None]:
    """Forward and backward of a batch with the same numbers every time."""
    import torch

    numbers = torch.Generator().manual_seed(1)
    tokens = 77 if unet.config.cross_attention_dim == 768 else 24

    def drawn(*shape: int) -> "torch.Tensor":
        return torch.randn(shape, generator=numbers).to(unet.dtype)

    latents, text = drawn(batch, 4, side, side), drawn(batch, tokens, unet.config.cross_attention_dim)
    step = torch.tensor([500])

    def work() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            output = unet(latents, step, text, return_dict=False)[0]
        output.float().square().mean().backward()
        unet.zero_grad(set_to_none=True)

    return work


def table(sizes: dict[str, int], rounds: list[dict[str, float]]) -> str:
    """Peaks, and medians of all rounds."""
    lines = [f"{'checkpointing':<15}{'memory':>12}{'of off':>9}{'a pass':>11}{'of off':>9}"]
    for mode in MODES:
        seconds = statistics.median(found[mode] for found in rounds)
        lines.append(
            f"{mode:<15}{sizes[mode] / MEGABYTE:>9,.0f} MB{sizes[mode] / sizes['off']:>9.2f}"
            f"{seconds:>9.3f} s{time_over_off(rounds, mode):>9.2f}"
        )
    return "\n".join(lines)


def time_over_off(rounds: list[dict[str, float]], mode: str) -> float:
    return statistics.median(found[mode] / found["off"] for found in rounds)


def figures(options: argparse.Namespace, sizes: dict[str, int], rounds: list[dict[str, float]]) -> dict[str, Any]:
    return {
        "benchmark": "attention_checkpointing",
        "model": "demo" if options.quick else "Stable Diffusion 1.5, random weights",
        "resolution": options.resolution,
        "batch": options.batch,
        "precision": options.precision,
        "rounds": len(rounds),
        "saved_of_full": round((sizes["off"] - sizes["attention"]) / (sizes["off"] - sizes["full"]), 3),
        "time_over_off": round(time_over_off(rounds, "attention"), 3),
        "time_over_off_of_rounds": [round(found["attention"] / found["off"], 3) for found in rounds],
        "full_time_over_off": round(time_over_off(rounds, "full"), 3),
        "peak_bytes": sizes,
        "seconds": {mode: round(statistics.median(found[mode] for found in rounds), 4) for mode in MODES},
    }


if __name__ == "__main__":
    main()
