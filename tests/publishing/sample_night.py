"""A night made up to look at: everything that a page can show, with pictures and a journal in the run's folder."""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import tomli_w
from PIL import Image, ImageDraw

from shoes import recipes
from shoes.reports import (
    ArmScores,
    Breakdown,
    CheckpointChoice,
    CheckpointScores,
    ClosePair,
    Comparison,
    Distance,
    EvaluationReport,
    GalleryRow,
    HeldOutLoss,
    Interval,
    Intervention,
    Judge,
    Memorisation,
    NightReport,
    Outcome,
    ParityTrial,
    PromotionReport,
    Spread,
    StageRun,
    StageTime,
    TrainReport,
)
from shoes.storage import pretty_json, write_text

EVENING = datetime(2025, 3, 1, 22, 0, tzinfo=UTC)
COLOURS = ("Black", "White", "Red", "Navy Blue", "Olive")


def interval(mean: float, half: float, **changes: Any) -> Interval:
    values: dict[str, Any] = {"level": 0.95, "num_clusters": 90, "num_values": 180}
    return Interval(mean=mean, low=mean - half, high=mean + half, **(values | changes))


def picture(path: Path, number: int, side: int = 48) -> Path:
    """A shoe of sorts on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (side, side), "white")
    pen, look = ImageDraw.Draw(image), random.Random(number)
    colour = tuple(look.randrange(30, 200) for _ in range(3))
    pen.ellipse((side * 0.1, side * 0.4, side * 0.9, side * 0.75), fill=colour)
    pen.rectangle((side * 0.1, side * 0.68, side * 0.9, side * 0.76), fill="#eeeeee")
    image.save(path)
    return path


def evaluation(folder: Path, **changes: Any) -> EvaluationReport:
    values: dict[str, Any] = {
        "fingerprint": "evaluation1",
        "path": folder,
        "adapter_sha256": "a" * 64,
        "arms": _arms(),
        "comparisons": (comparison("base", 4.21, 1.1), comparison("champion", 0.84, 0.6)),
        "grid": picture(folder / "grid.png", 1, 96),
        "scores": folder / "scores.jsonl",
        "seconds": 3312.0,
        "judges": (
            Judge(role="clip", name="openai/clip-vit-base-patch32"),
            Judge(role="second_clip", name="openai/clip-vit-large-patch14"),
            Judge(role="dino", name="the CLIP above", note="DINOv2 could not be had: no network"),
        ),
        "breakdowns": _breakdowns(),
        "memorisation": memorisation(folder),
        "gallery": gallery(folder),
        "half_width_wanted": 0.5,
        "notes": ("2 pictures were drawn again: they were constant.",),
    }
    return EvaluationReport(**(values | changes))


def comparison(against: str, mean: float, half: float, **changes: Any) -> Comparison:
    values: dict[str, Any] = {
        "against": against,
        "clip_score": interval(mean, half),
        "clip_image_similarity": interval(1.5 * mean, half),
        "identical": False,
        "second_clip_score": interval(0.9 * mean, half),
        "dino_similarity": interval(2 * mean, 1.5 * half),
        "cmmd": Distance(value=-12.4, standard_error=2.2),
        "held_out_loss": interval(-0.0042, 0.0012),
    }
    return Comparison(**(values | changes))


def _arms() -> tuple[ArmScores, ...]:
    spread = Spread(num_images=90, precision=0.71, recall=0.44, density=0.93, coverage=0.66, vendi=12.5)

    def arm(name: str, clip: float | None, likeness: float | None, **changes: Any) -> ArmScores:
        values: dict[str, Any] = {
            "num_images": 180,
            "clip_score": clip,
            "clip_score_interval": None if clip is None else interval(clip, 0.7),
            "clip_image_similarity": likeness,
            "second_clip_score": None if clip is None else clip - 8,
            "dino_similarity": None if likeness is None else likeness - 12,
            "cmmd": Distance(value=41.7, standard_error=3.1),
            "spread": spread,
            "held_out_loss": 0.1312,
        }
        return ArmScores(name=name, **(values | changes))

    nothing = {"held_out_loss": None}
    return (
        arm("base", 26.11, 61.02),
        arm("adapter", 30.32, 72.45),
        arm("champion", 29.48, 70.13),
        arm("real", 31.87, None, **nothing),
        arm("shuffled", 22.05, None, cmmd=None, spread=None, **nothing),
        arm("train", None, None, cmmd=Distance(value=-0.4, standard_error=1.1), **nothing),
    )


def _breakdowns() -> tuple[Breakdown, ...]:
    rows = [
        Breakdown(
            attribute="colour",
            value=colour,
            num_images=60 - 10 * number,
            adapter=30.1 - 1.4 * number,
            base=26.0,
            difference=interval(4.1 - 1.4 * number, 0.9),
        )
        for number, colour in enumerate(COLOURS)
    ]
    for attribute, value in (("gender", "Men"), ("gender", "Women"), ("season", "Summer"), ("season", "Winter")):
        rows.append(
            Breakdown(
                attribute=attribute, value=value, num_images=90, adapter=30.0, base=26.1, difference=interval(3.9, 1)
            )
        )
    rows.append(Breakdown(attribute="colour", value="Tan", num_images=2, adapter=29.0, base=28.0, difference=None))
    return tuple(rows)


def memorisation(folder: Path, **changes: Any) -> Memorisation:
    values: dict[str, Any] = {
        "fires": False,
        "reason": "Drawn pictures are no closer to training photos than held-out photos are.",
        "judge": "facebook/dinov2-base",
        "z": 0.84,
        "p_tail": 0.31,
        "share_close": 0.45,
        "num_drawn": 180,
        "num_held_out": 180,
        "is_enough": True,
        "pairs": tuple(
            ClosePair(
                drawn=picture(folder / "pairs" / f"{number}-drawn.png", 300 + number),
                photo=picture(folder / "pairs" / f"{number}-photo.png", 300 + number),
                prompt=f"{COLOURS[number % 5]} shoes, pair {number}",
                similarity=97.3 - number,
            )
            for number in range(22)
        ),
    }
    return Memorisation(**(values | changes))


def gallery(folder: Path, prompts: Sequence[str] = tuple(f"{colour} casual shoes, summer" for colour in COLOURS)):
    return tuple(
        GalleryRow(
            prompt=prompt,
            seed=1234 + number,
            pictures={
                arm: picture(folder / "gallery" / f"{number}-{arm}.png", 10 * number + place)
                for place, arm in enumerate(("base", "adapter", "champion"))
            },
            real=picture(folder / "gallery" / f"{number}-real.png", 10 * number + 7),
            nearest=picture(folder / "gallery" / f"{number}-nearest.png", 10 * number + 8),
            nearest_similarity=88.2 - number,
        )
        for number, prompt in enumerate(prompts)
    )


def train(folder: Path, **changes: Any) -> TrainReport:
    steps = range(0, 3001, 500)
    values: dict[str, Any] = {
        "fingerprint": folder.name,
        "run_dir": folder,
        "adapter_dir": folder / "adapter",
        "adapter_sha256": "a" * 64,
        "step": 3000,
        "max_train_steps": 3000,
        "end_reason": "all 3000 steps were run",
        "chosen_step": 1500,
        "losses": tuple(
            HeldOutLoss(
                step=step,
                mean=0.1354 - 0.000004 * min(step, 1500) + 0.000001 * max(step - 1500, 0),
                standard_error=0.0006,
                train_mean=0.1351 - 0.000005 * step,
            )
            for step in steps
        ),
        "loss_difference": interval(-0.0060, 0.0013),
        "device": "mps",
        "precision": "no",
        "num_trainable_parameters": 797_184 * 2,
        "images_per_second": 1.42,
        "resumed_from": (1000,),
        "seconds": 24_730.0,
        "parity": (
            ParityTrial(device="mps", precision="fp16", passed=False, verdict="the loss is not finite"),
            ParityTrial(
                device="mps",
                precision="no",
                passed=True,
                verdict="agrees with the CPU",
                loss_error=0.0002,
                prediction_error=0.0011,
                gradient_error=0.0027,
                decode_error=0.0004,
            ),
        ),
        "peak_memory_bytes": 9_800_000_000,
        "interventions": (
            Intervention(step=812, kind="again", detail="the loss was not finite; the step was run again"),
            Intervention(step=1650, kind="micro_batch", detail="memory ran out; micro-batches of 1 since then"),
        ),
        "choice": _choice(),
    }
    return TrainReport(**(values | changes))


def _choice() -> CheckpointChoice:
    rows = (
        CheckpointScores(step=500, loss=0.1334, loss_minus_best=interval(0.0040, 0.0009)),
        CheckpointScores(step=1500, loss=0.1294, is_shortlisted=True, clip_score=30.2, cmmd=40.1, cmmd_error=2.5),
        CheckpointScores(
            step=2000,
            loss=0.1299,
            loss_minus_best=interval(0.0005, 0.0006),
            is_shortlisted=True,
            clip_score=30.1,
            clip_minus_best=interval(-0.1, 0.4),
            cmmd=41.9,
            cmmd_error=2.6,
        ),
        CheckpointScores(step=3000, loss=0.1309, loss_minus_best=interval(0.0015, 0.0007)),
    )
    return CheckpointChoice(
        fingerprint="choice1",
        step=1500,
        reason="Steps 1,500 and 2,000 are within one standard error; the earlier is not worse on CLIP and CMMD.",
        checkpoints=rows,
        judge="openai/clip-vit-base-patch32",
        num_images=64,
    )


def night(folder: Path, **changes: Any) -> NightReport:
    """A night with all that it may have, in a folder that holds what lies beside a report."""
    report_of = changes.pop("evaluation", None) or evaluation(folder / "evaluation" / "evaluation1")
    trained = changes.pop("train", None) or train(folder)
    values: dict[str, Any] = {
        "recipe": "overnight",
        "verdict": "The adapter draws the captions better than the base, CLIP score +4.21 (95% interval +3.11 to "
        "+5.31) against the base; it is the champion.",
        "text": "The adapter draws the captions better than the base.\n\nTrained\n  a LoRA of rank 8",
        "promoted": True,
        "run_id": "0123456789abcdef",
        "tracking_uri": "http://someone:hunter2@tracking.example:5000",
        "train": trained,
        "evaluation": report_of,
        "promotion": PromotionReport(
            promoted=True,
            reason="its CLIP score differs from the champion's by +0.84",
            registered_model="casual-shoes-lora",
            version="7",
            champion_version="7",
            model_uri="models:/casual-shoes-lora@champion",
            seconds=3.0,
        ),
        "stages": tuple(StageTime(name=run.name, seconds=run.seconds) for run in timeline()),
        "forecast": Outcome(
            predicted_seconds=23_000.0,
            actual_seconds=24_730.0,
            predicted_peak_bytes=9_500_000_000,
            actual_peak_bytes=9_800_000_000,
        ),
        "finished": EVENING + timedelta(hours=8, minutes=12),
        "timeline": timeline(),
    }
    write_beside(folder)
    return NightReport(**(values | changes))


def timeline() -> tuple[StageRun, ...]:
    runs, moment = [], EVENING
    for name, seconds in (
        ("verify-environment", 14),
        ("fetch-model", 95),
        ("prepare-data", 210),
        ("forecast", 160),
        ("train-lora", 24_730),
        ("evaluate", 3_312),
        ("promote", 61),
    ):
        end = moment + timedelta(seconds=seconds)
        troubles = ("MLflow did not answer; tried again after 12 s",) if name == "promote" else ()
        runs.append(
            StageRun(
                name=name,
                started=moment,
                ended=end,
                seconds=seconds,
                state="Completed",
                tries=2 if troubles else 1,
                troubles=troubles,
            )
        )
        moment = end
    return tuple(runs)


def write_beside(folder: Path) -> None:
    """Recipe, environment and journal of the run."""
    spec = recipes.load("overnight").model_dump(mode="json")
    write_text(folder / "spec.toml", tomli_w.dumps(_without_none(spec)))
    checks = [
        {"name": "Python", "status": "OK", "detail": "3.12.4"},
        {"name": "Disk", "status": "WARN", "detail": "low"},
    ]
    write_text(folder / "environment.json", pretty_json({"torch": "2.13.0", "report": {"checks": checks}}))
    lines = [
        json.dumps({"time": 1000 * int((EVENING + timedelta(minutes=at)).timestamp()), **event})
        for at, event in _events()
    ]
    write_text(folder / "journal.jsonl", "\n".join(lines) + "\n")


def _events() -> Iterator[tuple[float, dict[str, Any]]]:
    """Minutes after the evening, and what the journal wrote down then."""
    look = random.Random(1)
    yield 8, {"id": "session/0", "kind": "status", "status": "RUNNING", "step": 0}
    for step in range(0, 3001, 500):
        curve = {f"val/loss/t{t:03d}": 0.1 + t / 9000 - step / 600_000 for t in (62, 187, 312, 437, 562, 687, 812)}
        yield 9, {"id": f"validation/{step}", "kind": "metrics", "step": step, "values": curve}
    for step in range(1, 3001, 5):
        values = {"train/loss_smoothed": 0.13 + look.random() / 900 - step / 9e5, "train/lr": min(step / 500, 1) / 1e4}
        yield 9, {"id": f"train/{step}", "kind": "metrics", "step": step, "values": values}
    memory = {"system/available_memory_bytes": 5e9, "system/swap_used_bytes": 1e8}
    yield 10, {"id": "system/1/25", "kind": "metrics", "step": 25, "values": memory}
    yield 93, {"id": "intervention/1", "kind": "tags", "values": {"intervention.1": "step 812: again"}}
    yield 120, {"id": "failed/9", "kind": "tags", "values": {"failure": "The disk of the run is full <b>now</b>"}}
    yield 122, {"id": "session/1", "kind": "status", "status": "RUNNING", "step": 1000}
    yield 130, {"id": "paused/2", "kind": "tags", "values": {"paused": "at step 1100: the window ends at 07:00"}}
    yield 250, {"id": "session/2", "kind": "status", "status": "RUNNING", "step": 1100}
    yield 300, {"id": "intervention/2", "kind": "tags", "values": {"intervention.2": "step 1650: micro_batch"}}


def small(folder: Path) -> NightReport:
    """A night on two test photos and one validation photo: nothing could be told."""
    why = "2 pictures can't tell chance from gain: 3 are the least; add photos"
    arms = tuple(
        ArmScores(name=name, num_images=2, clip_score=score, clip_score_interval=None, clip_image_similarity=likeness)
        for name, score, likeness in (("base", 20.76, 20.8), ("adapter", 49.39, 61.77), ("real", 71.05, None))
    )
    against = Comparison(against="base", clip_score=None, clip_image_similarity=None, identical=False)
    row = Breakdown(attribute="colour", value="Tan", num_images=2, adapter=49.4, base=20.8, difference=None)
    notes = ("no distances (CMMD): they take 6 different photos, and 2 are here",)
    found = evaluation(
        folder / "e",
        arms=arms,
        comparisons=(against,),
        breakdowns=(row,),
        memorisation=None,
        notes=notes,
        undecided=why,
    )
    full = train(folder)
    losses = tuple(loss.model_copy(update={"standard_error": None}) for loss in full.losses)
    trained = full.model_copy(update={"losses": losses, "loss_difference": None, "choice": None})
    decided = {"promoted": False, "reason": f"no verdict, because {why}"}
    promotion = night(folder).promotion.model_copy(update=decided)
    return night(
        folder,
        evaluation=found,
        train=trained,
        promoted=False,
        promotion=promotion,
        verdict=f"No verdict, because {why}.",
    )


def _without_none(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(item) if isinstance(item, dict) else "none" if item is None else item
        for key, item in value.items()
    }


def bare(folder: Path) -> NightReport:
    """A night as it was before evaluation and choice told more: what is not measured is not there."""
    arms = tuple(
        ArmScores(
            name=name,
            num_images=48,
            clip_score=score,
            clip_score_interval=interval(score, 1.0),
            clip_image_similarity=likeness,
        )
        for name, score, likeness in (("base", 20.76, 20.8), ("adapter", 49.39, 61.77), ("real", 71.05, None))
    )
    against = Comparison(
        against="base", clip_score=interval(28.6, 4.0), clip_image_similarity=interval(40.9, 9.0), identical=False
    )
    found = EvaluationReport(
        fingerprint="bare",
        path=folder / "evaluation",
        adapter_sha256="a" * 64,
        arms=arms,
        comparisons=(against,),
        grid=picture(folder / "grid.png", 5, 96),
        scores=folder / "scores.jsonl",
        seconds=12.0,
    )
    trained = train(folder, parity=(), interventions=(), choice=None, resumed_from=())
    return night(folder, evaluation=found, train=trained, timeline=(), forecast=None, run_id=None)
