"""The held-out loss by timestep as a picture: where on the way from noise to a photo an adapter helps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shoes.evaluation.grid import font

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_WIDTH, _HEIGHT = 800, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 118, 770, 96, 306
_INK, _GREY, _LINE, _PAPER, _BLUE = "#1a1a1a", "#757575", "#e4e4e4", "#ffffff", "#1f5fbf"
_TITLE, _TEXT = 19, 14  # font sizes in pixels
_FINER = 2
"""Drawn so many times larger and scaled down: Pillow's lines have hard edges."""
_SPANS = (1, 2, 5, 10, 20, 50, 100)
"""Percent above and below the base that an axis may show."""


def loss_curve(base: "np.ndarray", now: "np.ndarray", timesteps: Sequence[int], step: int) -> "Image":
    """How much the loss of N photos at T timesteps changed against the base, in percent, and both losses.

    Args:
        base: N×T losses of the base.
        now: the same photos, timesteps and noise, at `step`.

    Bars are two standard errors of the mean over photos, of the paired differences; one photo has none.
    """
    from PIL import Image, ImageDraw

    means = base.mean(0)
    change = 100 * (now - base).mean(0) / means
    has_errors = len(base) > 1
    error = 200 * (now - base).std(0, ddof=1) / len(base) ** 0.5 / means if has_errors else 0 * means
    most = float((abs(change) + error).max())
    span = next((span for span in _SPANS if most <= span), _SPANS[-1])
    sheet = Image.new("RGB", (_WIDTH * _FINER, _HEIGHT * _FINER), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (32, 30), f"Held-out loss by timestep, step {step:,} against the base", "lm", size=_TITLE)
    bars = "bars: two standard errors over photos" if has_errors else "of one photo"
    _write(pen, (32, 58), f"change in percent, below 0 is better; {bars}", "lm", _GREY)
    _axis(pen, span)
    _dots(pen, change.tolist(), error.tolist(), span)
    _table(pen, timesteps, (means.tolist(), now.mean(0).tolist()), step)
    return sheet.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)


def _axis(pen: "ImageDraw", span: int) -> None:
    for part in (1, 0.5, 0, -0.5, -1):
        y = _height(part * span, span)
        _line(pen, [(_LEFT, y), (_RIGHT, y)], _LINE if part else _GREY, 1)
        label = f"{part * span:+g} %" if part else "base"
        _write(pen, (_LEFT - 10, y), label, "rm", _GREY)


def _dots(pen: "ImageDraw", change: Sequence[float], error: Sequence[float], span: int) -> None:
    """The curve through all timesteps, each with its bar."""
    places = [(_across(column, len(change)), _height(value, span)) for column, value in enumerate(change)]
    for (x, _), value, margin in zip(places, change, error, strict=True):
        _line(pen, [(x, _height(value - margin, span)), (x, _height(value + margin, span))], _BLUE, 1)
    _line(pen, places, _BLUE, 2)
    for x, y in places:
        pen.ellipse([(v + side * 4) * _FINER for side in (-1, 1) for v in (x, y)], fill=_BLUE)


def _table(pen: "ImageDraw", timesteps: Sequence[int], losses: Sequence[Sequence[float]], step: int) -> None:
    """Below each dot its timestep and the two losses."""
    rows = zip(
        ("timestep", "base", f"step {step:,}"),
        (_INK, _GREY, _BLUE),
        ([str(t) for t in timesteps], *([f"{loss:.4f}" for loss in row] for row in losses)),
        strict=True,
    )
    for number, (title, colour, values) in enumerate(rows):
        y = _BOTTOM + 30 + number * 26
        _write(pen, (_LEFT - 10, y), title, "rm", colour)
        for column, value in enumerate(values):
            _write(pen, (_across(column, len(values)), y), value, "mm", colour)
    _write(pen, (_LEFT, _HEIGHT - 24), "almost a photo", "lm", _GREY)
    _write(pen, (_RIGHT, _HEIGHT - 24), "almost only noise", "rm", _GREY)


def _across(column: int, count: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (2 * column + 1) / (2 * count)


def _height(value: float, span: int) -> float:
    """Where a change stands; one beyond the axis stands at its end."""
    return _TOP + (_BOTTOM - _TOP) * (1 - max(-1.0, min(1.0, value / span))) / 2


def _line(pen: "ImageDraw", places: Sequence[tuple[float, float]], colour: str, width: int) -> None:
    pen.line([v * _FINER for place in places for v in place], fill=colour, width=width * _FINER, joint="curve")


def _write(
    pen: "ImageDraw", place: tuple[float, float], text: str, anchor: str, colour: str = _INK, *, size: int = _TEXT
) -> None:
    x, y = place
    pen.text((x * _FINER, y * _FINER), text, fill=colour, font=font(size * _FINER), anchor=anchor)
