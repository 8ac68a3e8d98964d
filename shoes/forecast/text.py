"""The forecast in words and tables. Pure."""

from datetime import datetime

from shoes.device import precision_name
from shoes.forecast.reports import Choice, Comparison, Forecast
from shoes.progress import duration, size


def text(forecast: Forecast) -> str:
    """The whole forecast, as it is printed."""
    blocks = [_headline(forecast), _parts(forecast), _needs(forecast)]
    if forecast.advice:
        blocks.append("\n".join(["To make it fit", *(f"  - {line}" for line in forecast.advice)]))
    return "\n\n".join(blocks)


def sentence(forecast: Forecast) -> str:
    """The forecast in one sentence."""
    end = f"{when(forecast.ends_at, forecast.starts_at)}"
    early, late = (when(moment, forecast.starts_at) for moment in (forecast.earliest, forecast.latest))
    between = f", between {early} and {late}" if early != late else ""
    return f"Ends at {end}{between}: {_verdict(forecast)}."


def when(moment: datetime, start: datetime) -> str:
    """A time of day, with the weekday when it is not the day of the start."""
    return moment.strftime("%H:%M" if moment.date() == start.date() else "%a %H:%M")


def _verdict(forecast: Forecast) -> str:
    misses = []
    if not forecast.fits_window:
        misses.append(f"after the window's end at {when(_ends(forecast), forecast.starts_at)}")
    if not forecast.fits_memory:
        misses.append("more memory than there is")
    if not forecast.fits_disk:
        misses.append("more disk than is free")
    if misses:
        return "it does not fit: " + ", ".join(misses)
    if forecast.window_ends_at is None:
        return "it fits"
    return f"inside the window, which ends at {when(_ends(forecast), forecast.starts_at)}"


def _ends(forecast: Forecast) -> datetime:
    assert forecast.window_ends_at is not None
    return forecast.window_ends_at


def _headline(forecast: Forecast) -> str:
    precision = precision_name(forecast.precision)
    how = f"micro-batch {forecast.micro_batch}, checkpointing {forecast.checkpointing}"
    left = f"{forecast.num_steps:,} steps" + (f" from step {forecast.start_step:,} on" if forecast.start_step else "")
    return (
        f"Forecast of {forecast.recipe}: {left}, on {forecast.device} ({forecast.device_name}) in {precision}, {how}\n"
        f"  starts at {forecast.starts_at:%H:%M}. {sentence(forecast)}"
    )


def _parts(forecast: Forecast) -> str:
    rows = [
        f"  {part.name:<32}{'' if part.count == 1 else f'{part.count:,} ×':>9}{duration(part.seconds):>14}"
        for part in forecast.parts
    ]
    total = f"  {'together':<41}{duration(forecast.night_seconds):>14}"
    training = (
        f"  training alone {duration(forecast.training_seconds)} "
        f"({duration(forecast.training_low)} to {duration(forecast.training_high)}), "
        f"{_brief(forecast.seconds_per_step)} a step; drawing an image {_brief(forecast.seconds_per_image)}"
    )
    return "\n".join(["Time", *rows, total, training])


def _needs(forecast: Forecast) -> str:
    lines = [
        f"  memory  {size(forecast.peak_memory_bytes)} at the peak, of {size(forecast.memory_limit_bytes)} it may use",
        f"  disk    {size(forecast.disk_bytes)}, of {size(forecast.free_disk_bytes)} free",
    ]
    if forecast.micro_batches:
        largest = ", ".join(f"{m.largest} (checkpointing {m.checkpointing})" for m in forecast.micro_batches)
        cheapest = forecast.cheapest_checkpointing or "none of them"
        lines.append(f"  fits    a micro-batch of up to {largest}; the effective batch is the most")
        lines.append(
            f"          cheapest checkpointing that fits with a micro-batch of {forecast.micro_batch}: {cheapest}"
        )
    return "\n".join(["Needs", *lines])


def comparison(found: Comparison) -> str:
    """The table of all choices."""
    head = (
        f"  {'':<2}{'precision':<11}{'micro-batch':>11}  {'checkpointing':<15}{'a step':>9}{'training':>11}"
        f"{'drawing':>10}{'in all':>13}{'an image':>10}{'images/min':>12}"
    )
    rows = [_row(row, is_chosen=number == found.chosen) for number, row in enumerate(found.rows)]
    end = [f"  → {found.reason}", f"    kept for this machine in {found.kept_in}; delete the file to drop it"]
    return "\n".join([f"Choices for {found.recipe} on {found.device} ({found.device_name})", head, *rows, "", *end])


def _row(row: Choice, *, is_chosen: bool) -> str:
    mark = "→ " if is_chosen else "  "
    start = f"  {mark}{precision_name(row.precision):<11}{row.micro_batch:>11}  {row.checkpointing:<15}"
    if row.seconds_per_step is None or row.total_seconds is None or row.training_bytes is None:
        return f"{start}  {row.note}"
    drawing = size(row.inference_bytes) if row.inference_bytes else ""
    image = _brief(row.seconds_per_image) if row.seconds_per_image else ""
    rate = f"{row.images_per_minute:.0f}" if row.images_per_minute else ""
    return (
        f"{start}{_brief(row.seconds_per_step):>9}{size(row.training_bytes):>11}{drawing:>10}"
        f"{duration(row.total_seconds):>13}{image:>10}{rate:>12}"
    )


def _brief(seconds: float) -> str:
    """Short times with what tells two of them apart."""
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)
