"""The page's charts: what is drawn, and beside each the table of its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

from shoes.publishing.page import svg
from shoes.publishing.page.numbers import signed

if TYPE_CHECKING:
    from datetime import datetime

    from markupsafe import Markup
    from matplotlib.axes import Axes

Better = Literal["above", "below"]
_ROW, _HEAD = 40, 26
"""Height of one interval, and of an axis."""


@dataclass(frozen=True)
class Table:
    """A table for people; the first cell of each row names it."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A drawing with its numbers."""

    name: str
    title: str
    caption: str
    drawing: "Markup"
    table: Table


@dataclass(frozen=True)
class Bar:
    """A difference with its interval."""

    label: str
    mean: float
    low: float
    high: float
    digits: int = 2

    @property
    def text(self) -> str:
        """Mean and interval."""
        mean, low, high = (signed(value, self.digits) for value in (self.mean, self.low, self.high))
        return f"{mean}  ({low} to {high})"


@dataclass(frozen=True)
class Line:
    """A curve; `margin` is drawn as a band around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    margin: Sequence[float] = ()
    is_dashed: bool = False


@dataclass(frozen=True)
class Stretch:
    """A time at which something went on."""

    label: str
    start: "datetime"
    end: "datetime"
    is_good: bool = True


def intervals(name: str, title: str, caption: str, bars: Sequence[Bar], better: Better) -> Chart:
    """Differences with their intervals, one below the other, around a line at 0."""
    height = _ROW * len(bars) + 2 * _HEAD
    with svg.styled():
        figure = svg.new_figure(height)
        axes = figure.add_axes((0.02, _HEAD * 1.6 / height, 0.96, _ROW * len(bars) / height))
        _around_zero(axes, bars)
        for row, bar in enumerate(bars):
            _interval(axes, len(bars) - row, bar, better)
        sides = ("worse", "better →") if better == "above" else ("← better", "worse")
        for x, side, align in ((0, sides[0], "left"), (1, sides[1], "right")):
            axes.text(x, -1.45 * _HEAD / (_ROW * len(bars)), side, transform=axes.transAxes, ha=align, color=svg.SOFT)
    described = "; ".join(f"{bar.label}: {bar.text}" for bar in bars)
    table = Table(
        ("", "difference", "from", "to"),
        tuple((bar.label, *(signed(value, bar.digits) for value in (bar.mean, bar.low, bar.high))) for bar in bars),
    )
    return Chart(name, title, caption, svg.to_svg(figure, name, title, described), table)


def _around_zero(axes: "Axes", bars: Sequence[Bar]) -> None:
    low, high = min(0.0, *(bar.low for bar in bars)), max(0.0, *(bar.high for bar in bars))
    room = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(0.5, len(bars) + 0.5)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=3)
    axes.locator_params(axis="x", nbins=6)


def _interval(axes: "Axes", y: float, bar: Bar, better: Better) -> None:
    colour = judge(bar, better)
    across = axes.get_yaxis_transform()
    axes.text(0, y + 0.16, shorten(bar.label, width=24, placeholder="…"), transform=across, va="center")
    axes.text(1, y + 0.16, bar.text, transform=across, ha="right", va="center", color=svg.SOFT)
    axes.plot([0, 0], [y - 0.44, y - 0.04], color=svg.SOFT, linewidth=1)  # in pieces: a line would cross the words
    axes.plot([bar.low, bar.high], [y - 0.24] * 2, color=colour, linewidth=3, solid_capstyle="round", alpha=0.55)
    axes.plot([bar.mean], [y - 0.24], marker="o", markersize=8, color=colour)


def judge(bar: Bar, better: Better) -> str:
    """Colour of an interval: good or bad when 0 lies outside of it."""
    if bar.low <= 0 <= bar.high:
        return svg.SOFT
    return svg.GOOD if (bar.mean > 0) == (better == "above") else svg.BAD


def curves(  # noqa: PLR0913 - a chart's words, its curves and its axes
    name: str,
    title: str,
    caption: str,
    lines: Sequence[Line],
    *,
    axis: str,
    table: Table,
    mark: tuple[float, str] | None = None,
    with_zero: bool = False,
) -> Chart:
    """Curves over one axis; `mark` is a place on it with a word."""
    height = 250
    with svg.styled():
        figure = svg.new_figure(height)
        axes = figure.add_axes((0.155, 0.19, 0.825, 0.69 if len(lines) > 1 else 0.78))
        axes.grid(axis="y", color=svg.LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        if with_zero:
            axes.axhline(0, color=svg.SOFT, linewidth=1)
        for line in lines:
            _curve(axes, line)
        if mark:
            _write_beside(axes, *mark)
        axes.set_xlabel(axis)
        axes.locator_params(nbins=6)
        axes.tick_params(length=3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "−"))
        if len(lines) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.19, 1.02), ncols=len(lines), borderpad=0, handlelength=1.6)
    described = "; ".join(_in_words(line) for line in lines)
    return Chart(name, title, caption, svg.to_svg(figure, name, title, described), table)


def _curve(axes: "Axes", line: Line) -> None:
    marker = "o" if len(line.x) <= 40 else ""
    style = (0, (4, 2)) if line.is_dashed else "-"
    axes.plot(
        line.x, line.y, color=line.colour, linewidth=1.8, marker=marker, markersize=4, linestyle=style, label=line.label
    )
    if line.margin:
        low = [value - margin for value, margin in zip(line.y, line.margin, strict=True)]
        high = [value + margin for value, margin in zip(line.y, line.margin, strict=True)]
        axes.fill_between(line.x, low, high, color=line.colour, alpha=0.15, linewidth=0)


def _write_beside(axes: "Axes", x: float, word: str) -> None:
    """A dotted line at a place of the axis, with a word on the side that has more room."""
    low, high = axes.get_xlim()
    is_left = x < (low + high) / 2
    axes.axvline(x, color=svg.SOFT, linewidth=1, linestyle=(0, (2, 3)))
    axes.annotate(
        word,
        (x, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(5 if is_left else -5, -2),
        textcoords="offset points",
        ha="left" if is_left else "right",
        va="top",
    )


def _in_words(line: Line) -> str:
    if not line.y:
        return f"{line.label}: nothing"
    return f"{line.label} from {line.y[0]:.4g} to {line.y[-1]:.4g}, between {min(line.y):.4g} and {max(line.y):.4g}"


def times(name: str, title: str, caption: str, stretches: Sequence[Stretch], table: Table) -> Chart:
    """What went on when, one row each."""
    from matplotlib.dates import AutoDateLocator, DateFormatter, date2num

    height = 24 * len(stretches) + 34
    first = stretches[0].start.tzinfo
    zone = first if first is not None else None
    with svg.styled():
        figure = svg.new_figure(height)
        axes = figure.add_axes((0.29, 28 / height, 0.67, 1 - 32 / height))
        span = date2num(max(s.end for s in stretches)) - date2num(min(s.start for s in stretches))
        for row, stretch in enumerate(stretches):
            start, end = float(date2num(stretch.start)), float(date2num(stretch.end))
            colour: Any = svg.ACCENT if stretch.is_good else svg.WARN
            axes.barh(len(stretches) - row, max(end - start, span / 150), left=start, height=0.56, color=colour)
            axes.text(
                -0.03,
                len(stretches) - row,
                stretch.label,
                transform=axes.get_yaxis_transform(),
                ha="right",
                va="center",
            )
        axes.set_ylim(0.4, len(stretches) + 0.6)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        locator = AutoDateLocator(tz=zone, minticks=2, maxticks=5)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(DateFormatter("%H:%M" if span > 10 / 1440 else "%H:%M:%S", tz=zone))
        axes.grid(axis="x", color=svg.LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=3)
    described = "; ".join(f"{s.label} {s.start:%H:%M:%S} to {s.end:%H:%M:%S}" for s in stretches)
    return Chart(name, title, caption, svg.to_svg(figure, name, title, described), table)
