"""What would fit, where the night as it is does not. Pure."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime

from shoes import clock
from shoes.forecast.reports import Forecast
from shoes.progress import duration


def advice(recipe: str, forecast: Forecast, others: Mapping[str, float]) -> Iterator[str]:
    """Sentences, the least change first.

    Args:
        others: seconds that other recipes would take with the same model at the same size, by name.
    """
    if not forecast.fits_memory:
        yield from _less_memory(forecast)
    if not forecast.fits_disk:
        yield "free some disk, or set SHOES_DATA_DIR to a folder on a larger one"
    if not forecast.fits_window:
        yield from _less_time(recipe, forecast, others)


def _less_memory(forecast: Forecast) -> Iterator[str]:
    fitting = [limit for limit in forecast.micro_batches if limit.largest > 0]
    if not fitting:
        yield "not even one image fits into memory: close other programs, or train at a smaller --train.resolution"
        return
    for limit in fitting:
        size = min(limit.largest, forecast.micro_batch)
        yield f"--train.train_batch_size {size} --train.gradient_checkpointing {limit.checkpointing} fits into memory"
        return


def _less_time(recipe: str, forecast: Forecast, others: Mapping[str, float]) -> Iterator[str]:
    assert forecast.window_ends_at is not None
    hours = clock.seconds_between(forecast.starts_at, forecast.window_ends_at)
    steps = _steps_that_fit(forecast, hours)
    if steps > 0:
        at = _clock(forecast.window_ends_at)
        yield f"--train.max_train_steps {forecast.start_step + steps} would end by {at}"
    for name, seconds in others.items():
        if name != recipe and seconds <= hours:
            yield f"the recipe {name} would take {duration(seconds)}"
    nights = math.ceil(forecast.night_seconds / hours)
    yield f"as it is, it pauses at the end of the window with nothing lost, and is finished after {nights} nights"


def _steps_that_fit(forecast: Forecast, seconds: float) -> int:
    """Steps for which there is time, in whole hundreds where there are that many."""
    spare = seconds - (forecast.night_seconds - forecast.num_steps * forecast.seconds_per_step)
    steps = min(forecast.num_steps, int(spare / forecast.seconds_per_step))
    return steps // 100 * 100 if steps >= 200 else max(0, steps)


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M")
