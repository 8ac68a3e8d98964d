"""A matplotlib figure as SVG inside an HTML page: colours are the page's CSS variables, words its font."""

import io
import re
import warnings
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 350
"""Units of every chart: about a pixel each on a phone, so that charts are read there without zooming."""
INK, SOFT, LINE, ACCENT, SECOND, GOOD, BAD, WARN = (f"#0a0b{number:02x}" for number in range(8))
"""Stand for colours of the page while matplotlib draws."""
_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    ACCENT: "--accent",
    SECOND: "--second",
    GOOD: "--good",
    BAD: "--bad",
    WARN: "--warn",
}
_RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "shoes",
    "text.parse_math": False,  # what is between two dollar signs is text like any other
    "font.size": 11.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.unicode_minus": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


def new_figure(height: float) -> "Figure":
    """A figure of the page's width; `height` in the same units."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_RC):
        return Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def styled() -> AbstractContextManager[None]:
    """Context in which charts are drawn."""
    from matplotlib import rc_context

    return rc_context(_RC)


def to_svg(figure: "Figure", name: str, title: str, description: str) -> Markup:
    """The figure as one `svg` element. Equal figures give equal text.

    Args:
        name: prefix of all ids, unique in the page.
        title: what a screen reader says.
        description: what can be seen, in a sentence.
    """
    with styled(), warnings.catch_warnings(), io.StringIO() as text:
        warnings.filterwarnings("ignore", message="Glyph")  # the browser's fonts have it
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        drawn = text.getvalue()
    return Markup("{}{}</svg>").format(_head(figure, name, title, description), Markup(_body(drawn, name)))


def _head(figure: "Figure", name: str, title: str, description: str) -> Markup:
    width, height = (72 * side for side in figure.get_size_inches())
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {:.0f} {:.0f}" aria-labelledby="{}-title {}-desc">'
        '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>'
    ).format(width, height, name, name, name, title, name, description)


def _body(drawn: str, name: str) -> str:
    """All that is inside matplotlib's root element, with ids of its own and the page's colours and font."""
    inside = drawn[drawn.index(">", drawn.index("<svg")) + 1 : drawn.rindex("</svg>")]
    inside = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", inside, flags=re.DOTALL)
    inside = inside.replace("xlink:href", "href")
    inside = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", inside)
    inside = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", inside)
    for stand_in, variable in _VARIABLES.items():
        inside = inside.replace(stand_in, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", inside)
