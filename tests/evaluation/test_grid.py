import numpy as np
import pytest
from PIL import Image

from shoes.evaluation.grid import CELL, Row, comparison_grid, pick_rows, sample_grid, short_labels

TEMPLATE = "A professional product photo of {} casual shoes, {} collection, men, centered on white background"


def picture(value: int, side: int = 64) -> Image.Image:
    return Image.new("RGB", (side, side), (value, 0, 255 - value))


def count_cells(grid: Image.Image, colour: tuple[int, int, int]) -> float:
    return (np.asarray(grid) == colour).all(axis=-1).sum() / (CELL - 2) ** 2


def test_the_grid_shows_every_picture_once_at_its_size() -> None:
    rows = [Row("Black\nfall", [picture(0), picture(50)]), Row("Red", [picture(100), picture(150, side=512)])]
    grid = comparison_grid(["Base", "Adapter"], rows, "note")
    for value in (0, 50, 100, 150):
        assert count_cells(grid, (value, 0, 255 - value)) == pytest.approx(1)
    assert comparison_grid(["Base", "Adapter"], rows[:1]).height == pytest.approx(grid.height / 2, abs=60)
    pixels = np.asarray(grid)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()


def test_samples_wrap_to_rows_and_long_titles_stay_in_their_column() -> None:
    captions = [
        TEMPLATE.format(f"{c} and very wordy", f"unusually long {c}") for c in ("black", "red", "blue", "tan", "café")
    ]
    grid = sample_grid([picture(50 * n) for n in range(5)], captions, columns=3)
    assert grid.width < 4 * CELL
    step = (grid.width - 2 * 32 + 12) // 3
    for gap in (32 + CELL + 2, 32 + step + CELL + 2):
        assert (np.asarray(grid)[:, gap : gap + 8] == 255).all(), "a title reaches out of its column"
    assert grid.height > 2 * CELL
    for n in range(5):
        assert count_cells(grid, (50 * n, 0, 255 - 50 * n)) == pytest.approx(1)


def test_labels_leave_out_what_all_captions_share() -> None:
    captions = [TEMPLATE.format("navy blue", "fall"), TEMPLATE.format("red", "winter")]
    assert short_labels(captions) == ["navy blue casual shoes, fall", "red casual shoes, winter"]


@pytest.mark.parametrize(
    "captions",
    [["one caption alone"], ["the very same words"] * 2, ["step 50", "step 100"], ["a b c", "d e f"], []],
)
def test_labels_keep_what_is_worth_keeping(captions: list[str]) -> None:
    assert short_labels(captions) == captions


def test_a_caption_inside_another_keeps_some_words() -> None:
    assert short_labels(["a b c d", "a b c"]) == ["d", "a b c"]


def test_rows_show_different_captions_spread_over_all() -> None:
    captions = [f"caption {n % 26:02d}" for n in range(100)]
    rows = pick_rows(captions, 6)
    shown = [captions[i] for i in rows]
    assert len(set(shown)) == 6
    assert shown == sorted(shown)
    assert shown[0] < "caption 04"
    assert shown[-1] > "caption 21"
    assert len(pick_rows(captions[:3], 6)) == 3
