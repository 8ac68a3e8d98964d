"""Measurement × plan, and what would fit."""

from datetime import timedelta
from typing import Any

import pytest

from shoes.forecast import text
from shoes.forecast.advice import advice
from shoes.forecast.prediction import micro_batch_limits
from shoes.forecast.reports import Forecast, MemoryPoint, Samples
from tests.forecast.factory import MEGABYTE, NOW, forecast, measurement


def part(found: Forecast, name: str) -> float:
    return next(p.seconds for p in found.parts if p.name == name)


def test_the_parts_are_counts_times_what_was_measured() -> None:
    found = forecast()
    assert part(found, "training steps") == 1000 * 6.0 + 3.0, "the first step pays 3 s once"
    assert part(found, "encoding photos and captions") == pytest.approx(510 * 0.1 + (112 + 41) * 0.01 + 4)
    assert part(found, "held-out loss") == pytest.approx(3 * 8 * (64 + 64) * 0.05)
    assert part(found, "sample images") == 3 * (2 + 4 * 10)
    assert part(found, "choosing a checkpoint") == 2 * 64 * 8 + 2 * 5, "two candidates, 64 validation captions each"
    drawing, scoring = 2 * 90 * 2 * 8 + 2 * 5, 1 + (2 * 64 + 360 + 600) * 0.1
    loss = 2 * 5 + 2 * 8 * 64 * 0.05 + 90 * 0.1
    assert part(found, "evaluation") == pytest.approx(drawing + scoring + loss)
    assert sum(p.seconds for p in found.parts) == pytest.approx(found.night_seconds)
    assert found.ends_at == NOW + timedelta(seconds=found.night_seconds)


def test_the_range_holds_the_forecast_and_what_was_measured() -> None:
    found = forecast()
    assert found.earliest < found.ends_at < found.latest
    assert found.training_low < 1000 * 5.5 + 2000
    assert found.training_high > 1000 * 7.0
    steady = forecast(measurement(step=Samples(first=6.0, others=(6.0, 6.0))))
    assert steady.training_high - steady.training_low < found.training_high - found.training_low


def test_memory_counts_what_the_process_holds_already() -> None:
    assert forecast().peak_memory_bytes == 4_000 * MEGABYTE
    assert forecast(process=700 * MEGABYTE).peak_memory_bytes == 4_200 * MEGABYTE
    on_a_gpu = forecast(measurement(device="cuda"), process=700 * MEGABYTE)
    assert on_a_gpu.peak_memory_bytes == 4_000 * MEGABYTE


@pytest.mark.parametrize(
    ("limit", "off", "full"),
    [(8_000, 4, 14), (2_600, 1, 3), (2_000, 0, 2), (1_400, 0, 0), (100_000, 16, 16)],
)
def test_the_largest_micro_batch_by_checkpointing(limit: int, off: int, full: int) -> None:
    found = micro_batch_limits(measurement().memory, limit * MEGABYTE, 16)
    assert [(m.checkpointing, m.largest) for m in found] == [("off", off), ("full", full)]


def test_a_micro_batch_that_was_refused_is_never_called_fitting() -> None:
    points = [
        MemoryPoint(checkpointing="off", micro_batch=1, peak_bytes=MEGABYTE),
        MemoryPoint(checkpointing="off", micro_batch=2, peak_bytes=None),
    ]
    assert micro_batch_limits(points, 10**12, 16)[0].largest == 1
    assert micro_batch_limits(points[1:], 10**12, 16)[0].largest == 0


def test_the_cheapest_checkpointing_that_fits() -> None:
    def cheapest(limit: int) -> str | None:
        found = micro_batch_limits(measurement().memory, limit * MEGABYTE, 16)
        return forecast().model_copy(update={"micro_batches": found}).cheapest_checkpointing

    assert [cheapest(limit) for limit in (8_000, 2_600, 1_400)] == ["off", "full", None]


def advised(found: Forecast, others: dict[str, float] | None = None) -> list[str]:
    return list(advice(found.recipe, found, others or {}))


def test_a_night_that_fits_needs_no_advice() -> None:
    found = forecast()
    assert found.fits
    assert advised(found) == []
    assert "inside the window, which ends at Mon 07:00" in text.sentence(found)


def test_a_night_that_is_too_long_is_told_what_would_fit() -> None:
    found = forecast(**{"train.max_train_steps": "8000"})
    assert not found.fits_window
    steps, prototype, go_on = advised(found, {"prototype": 900.0, "overnight": 80_000.0})
    number = int(steps.split()[1])
    rest = found.night_seconds - 8000 * found.seconds_per_step
    assert number == int((9 * 3600 - rest) / found.seconds_per_step) // 100 * 100
    assert forecast(**{"train.max_train_steps": str(number)}).fits_window
    assert not forecast(**{"train.max_train_steps": str(number + 1000)}).fits_window
    assert "prototype" in prototype
    assert "2 nights" in go_on
    assert "it does not fit: after the window's end" in text.sentence(found)


def test_too_little_memory_is_told_what_would_fit() -> None:
    small = measurement(memory_limit_bytes=2_600 * MEGABYTE)
    assert advised(forecast(small)) == [
        "--train.train_batch_size 1 --train.gradient_checkpointing off fits into memory"
    ]
    tiny = measurement(memory_limit_bytes=MEGABYTE)
    assert "not even one image" in advised(forecast(tiny))[0]


def test_too_little_disk_is_said() -> None:
    found = forecast(free=1_000)
    assert not found.fits_disk
    assert "SHOES_DATA_DIR" in advised(found)[0]
    without = forecast(measurement(latent_bytes_per_photo=0, text_bytes_per_caption=0))
    assert found.disk_bytes - without.disk_bytes == 600 * 131_072 + (112 + 41) * 236_544


@pytest.mark.parametrize("changes", [{}, {"memory": ()}])
def test_the_text_is_within_a_terminal(changes: dict[str, Any]) -> None:
    printed = text.text(forecast(measurement(**changes)))
    assert max(map(len, printed.splitlines())) <= 120
    assert "training steps" in printed
