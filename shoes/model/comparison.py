"""What each memory-saving option saves and costs on this machine: every one in a process of its own."""

import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from shoes.errors import ModelError, Problem
from shoes.model.inference import choose_inference, inference_problems
from shoes.model.trial import TrialPlan, TrialReport
from shoes.reports import Report
from shoes.spec import InferenceSpec
from shoes.storage import canonical_json, fingerprint, pretty_json, write_text

log = logging.getLogger(__name__)
PLAIN = "plain"
OPTIONS = {
    PLAIN: InferenceSpec(vae_slicing=False),
    "vae_slicing": InferenceSpec(vae_slicing=True),
    "vae_tiling": InferenceSpec(vae_slicing=False, vae_tiling=True),
    "attention sliced": InferenceSpec(vae_slicing=False, attention="sliced"),
    "attention xformers": InferenceSpec(vae_slicing=False, attention="xformers"),
    "offload model": InferenceSpec(vae_slicing=False, offload="model"),
}
"""Each option alone, against none of them."""
BATCH_SIZE, REPEATS = 2, 4
"""Two pictures at once, or slicing the VAE's batch would save nothing; one cold and three warm times."""


class OptionTrial(Report):
    """One row of the comparison: measured, or why it was not."""

    name: str
    skipped: str = ""
    """Why this machine does not admit the option, or how it failed."""
    seconds_per_image: float = 0.0
    """Median of the warm ones."""
    fastest_seconds: float = 0.0
    slowest_seconds: float = 0.0
    growth_bytes: int = 0
    """Memory that loading and drawing took."""
    time_ratio: float = 0.0
    """Of plain's time."""
    memory_ratio: float = 0.0
    """Of plain's memory."""
    max_difference: int = 0
    """Largest difference of a pixel from plain's, in grey levels of 255."""
    is_good: bool = True
    """No picture was blank or not finite."""


class OptionComparison(Report):
    """All options on this machine."""

    plan: TrialPlan
    """How plain was drawn."""
    path: Path
    rows: tuple[OptionTrial, ...]

    @property
    def is_good(self) -> bool:
        """Every option that was measured drew proper pictures."""
        return all(row.is_good for row in self.rows)


def compare_options(
    plan: TrialPlan, root: Path, on_progress: Callable[[int, int, str], None] = lambda *_: None
) -> OptionComparison:
    """Draw the first two prompts of a plan with each option alone.

    Args:
        root: the comparison is kept in a folder below it.

    Raises:
        ModelError: nothing can be drawn even without options.
    """
    prompts = (plan.prompts * BATCH_SIZE)[:BATCH_SIZE]
    base = plan.model_copy(update={"prompts": prompts, "batch_size": BATCH_SIZE, "repeats": REPEATS})
    rows: list[OptionTrial] = []
    with tempfile.TemporaryDirectory(prefix="shoes-trial-") as scratch:
        first: TrialReport | None = None
        for number, (name, spec) in enumerate(OPTIONS.items()):
            on_progress(number, len(OPTIONS), name)
            found = _measure(base, spec, Path(scratch) / str(number))
            if first is None:
                if isinstance(found, str):
                    fix = "see `shoes check`; a smaller --train.resolution or --train.device cpu may do"
                    raise ModelError([Problem(plan.name, f"can't be drawn with: {found}", fix)])
                first = found
            rows.append(_row(name, found, first))
        on_progress(len(OPTIONS), len(OPTIONS), "")
    name = fingerprint("options", base.fingerprint)
    comparison = OptionComparison(plan=first.plan if first else base, path=root / name, rows=tuple(rows))
    write_text(comparison.path / "comparison.json", pretty_json(comparison))
    return comparison


def _measure(plan: TrialPlan, spec: InferenceSpec, folder: Path) -> TrialReport | str:
    """The option's trial, or why there is none."""
    refused = inference_problems(spec, plan.device)
    if refused:
        return "; ".join(problem.what for problem in refused.values())
    options = choose_inference(spec, plan.device, resolution=plan.resolution)
    request = {"plan": plan.model_copy(update={"inference": options}), "folder": folder}
    done = subprocess.run(
        [sys.executable, "-m", "shoes.model.trial"],
        input=canonical_json(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return TrialReport.model_validate_json(done.stdout)
    if done.returncode == -9:
        return "the system killed it: most likely there was not enough memory"
    return (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]


def _row(name: str, found: TrialReport | str, plain: TrialReport) -> OptionTrial:
    if isinstance(found, str):
        return OptionTrial(name=name, skipped=found)
    return OptionTrial(
        name=name,
        seconds_per_image=found.warm_seconds,
        fastest_seconds=found.fastest_seconds,
        slowest_seconds=found.slowest_seconds,
        growth_bytes=found.growth_bytes,
        time_ratio=found.warm_seconds / plain.warm_seconds,
        memory_ratio=found.growth_bytes / max(1, plain.growth_bytes),
        max_difference=max(_difference(found.path / p.file, plain.path / p.file) for p in found.pictures),
        is_good=found.is_good,
    )


def _difference(one: Path, other: Path) -> int:
    import numpy as np
    from PIL import Image

    first, second = (np.asarray(Image.open(file), dtype=np.int16) for file in (one, other))
    return int(np.abs(first - second).max())
