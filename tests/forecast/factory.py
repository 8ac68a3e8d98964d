"""A measurement, a job and a data set to calculate with."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from shoes import recipes, stages
from shoes.forecast.plan import plan
from shoes.forecast.prediction import predict
from shoes.forecast.reports import Forecast, Measurement, MemoryPoint, Samples
from shoes.reports import DataReport, SplitCount
from shoes.spec import Recipe

MEGABYTE = 1024**2
NOW = datetime(2026, 3, 1, 22, 0, tzinfo=timezone(timedelta(hours=-3)))


def measurement(**changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "device": "cpu",
        "device_name": "a processor",
        "precision": "no",
        "checkpointing": "off",
        "micro_batch": 2,
        "load_seconds": 5.0,
        "verify_cache_seconds": 0.0,
        "frozen_load_seconds": 4.0,
        "encode_seconds_per_photo": 0.1,
        "encode_seconds_per_caption": 0.01,
        "step": Samples(first=9.0, others=(6.0, 5.0, 7.0)),
        "held_out_seconds_per_pass": 0.05,
        "pipeline_seconds": 2.0,
        "sample_batch_seconds": 10.0,
        "sample_batch_images": 1,
        "drawing_seconds_per_image": 8.0,
        "judge_load_seconds": 1.0,
        "judge_seconds_per_image": 0.1,
        "checkpoint_seconds": 0.5,
        "checkpoint_bytes": 20 * MEGABYTE,
        "candidate_seconds": 0.3,
        "candidate_bytes": 10 * MEGABYTE,
        "picture_bytes": MEGABYTE // 2,
        "latent_bytes_per_photo": 131_072,
        "text_bytes_per_caption": 236_544,
        "baseline_bytes": 500 * MEGABYTE,
        "training_peak_bytes": 4_000 * MEGABYTE,
        "inference_peak_bytes": 3_000 * MEGABYTE,
        "memory_limit_bytes": 8_000 * MEGABYTE,
        "memory": tuple(
            MemoryPoint(checkpointing=mode, micro_batch=size, peak_bytes=(1_000 + slope * size) * MEGABYTE)
            for mode, slope in (("full", 500), ("off", 1_500))
            for size in (1, 2)
        ),
    }
    return Measurement(**{**values, **changes})


def data_report(train: int = 420, val: int = 90, test: int = 90) -> DataReport:
    counts = (("train", train, 111), ("val", val, 40), ("test", test, 50))
    return DataReport(
        path=Path("/data"),
        fingerprint="f",
        resolution=512,
        splits=tuple(SplitCount(name=name, num_images=n, num_captions=c) for name, n, c in counts),
        seconds=0.0,
    )


def forecast(measured: Measurement | None = None, process: int = 0, free: int = 10**12, **flags: str) -> Forecast:
    recipe = recipes.load("overnight", {"train.max_train_steps": "1000", "train.save_steps": "500", **flags})
    work = plan(recipe.train, recipe.eval, data_report(), start_step=0, is_cached=False)
    measured = measured or measurement()
    return predict(recipe, "abc", work, measured, now=NOW, process_bytes=process, free_disk_bytes=free)


def job_of(recipe: Recipe):
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    return stages._job(recipe, models, data), models, data
