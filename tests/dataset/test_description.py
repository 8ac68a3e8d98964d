"""What is said of a data set is what is in it, in the same bytes every time."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from shoes.dataset import Product, import_data_set, load_split, write_data_set, write_description
from shoes.dataset.description import Description, SizeCount, Tally, describe
from shoes.dataset.page import write_page
from shoes.dataset.summary import text
from shoes.errors import DataError
from shoes.settings import PROJECT_ROOT
from shoes.spec import DataSpec
from shoes.storage import MANIFEST, is_whole, pretty_json

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
Contents = Callable[[Path], dict[str, bytes]]
SPLITS = ("train", "val", "test")


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects texts and pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "rect", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect",):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_every_number_is_that_of_the_records(data_set: Path) -> None:
    found = describe(data_set)
    records = {split: load_split(data_set / split) for split in SPLITS}
    assert (found.photos.train, found.photos.val, found.photos.test) == (28, 6, 6)
    assert found.num_captions == len({r.caption for items in records.values() for r in items})
    assert set(found.attributes) == {"colour", "gender", "season", "usage", "article", "year"}
    for name, tallies in found.attributes.items():
        for split in SPLITS:
            counts = Counter(record.attributes[name] for record in records[split])
            assert {t.value: getattr(t, split) for t in tallies if getattr(t, split)} == counts
        assert sum(tally.total for tally in tallies) == 40
    assert [(s.width, s.height, s.photos) for s in found.original_sizes or ()] == [(56, 40, 40)]
    assert found.near_duplicates == ()


def test_a_description_is_a_page_a_picture_and_data(data_set: Path, tmp_path: Path, contents: Contents) -> None:
    place = write_description(data_set, tmp_path / "descriptions")
    assert {path.name for path in place.iterdir()} == {"index.html", "description.json", "samples.png", MANIFEST}
    assert is_whole(place)
    again = write_description(data_set, tmp_path / "elsewhere")
    assert contents(place) == contents(again)
    assert Description.model_validate_json((place / "description.json").read_bytes()) == describe(data_set)
    page = Page((place / "index.html").read_text())
    assert {"Black", "Brown", "White", "Navy", "56", "40", "catalogue"} <= set(page.words)
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    with Image.open(place / "samples.png") as picture:
        assert picture.height > 4 * 128
    assert not re.search(r"https?://|/tmp/|\d\d:\d\d:\d\d", (place / "index.html").read_text())


def test_a_description_that_is_there_is_not_made_again(data_set: Path, tmp_path: Path) -> None:
    place = write_description(data_set, tmp_path / "descriptions")
    before = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    assert write_description(data_set, tmp_path / "descriptions") == place
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == before
    (place / "index.html").write_text("cut off")
    write_description(data_set, tmp_path / "descriptions")
    assert is_whole(place)


def test_another_data_set_has_another_place(make_catalogue: Make, data_set: Path, tmp_path: Path) -> None:
    import_data_set(tmp_path / "catalogue", tmp_path / "other", DataSpec(seed=1), resolution=32)
    assert write_description(data_set, tmp_path / "d") != write_description(tmp_path / "other", tmp_path / "d")


def test_near_duplicates_and_odd_words_are_shown_as_they_are(draw: Draw, tmp_path: Path) -> None:
    odd = '<script>alert("x")</script> & {{ 7 * 7 }}'
    products = [
        Product(f"p{n}", {"colour": odd if n % 2 else "", "season": "Fall"}, lambda n=n: draw(n // 2 if n < 4 else n))
        for n in range(24)
    ]
    write_data_set(tmp_path / "set", products, DataSpec(), resolution=32, source={"name": odd})
    place = write_description(tmp_path / "set", tmp_path / "descriptions")
    found = describe(tmp_path / "set")
    assert found.near_duplicates == (("p0", "p1"), ("p2", "p3"))
    assert [tally.value for tally in found.attributes["colour"]] == [odd, "(unknown)"]
    html = (place / "index.html").read_text()
    page = Page(html)
    assert "<script" not in html
    assert {"p0", "p3", "{{"} <= set(page.words)
    assert "49" not in page.words


def test_photos_without_colours_are_shown_all_the_same(draw: Draw, tmp_path: Path) -> None:
    products = [Product(f"p{n}", {}, lambda n=n: draw(n), caption="a shoe") for n in range(20)]
    write_data_set(tmp_path / "set", products, DataSpec(), resolution=32, source={})
    page = Page((write_description(tmp_path / "set", tmp_path / "d") / "index.html").read_text())
    assert len(page.addresses) == 8
    assert "(unknown)" in page.words


def test_in_a_terminal_what_is_too_much_to_show_is_counted(data_set: Path) -> None:
    found = describe(data_set)
    tallies = tuple(Tally(value=f"colour {n}", train=n, val=1, test=2) for n in range(15, 0, -1))
    sizes = tuple(SizeCount(width=100 + n, height=90, photos=1000 * n) for n in range(8, 0, -1))
    many = {
        "attributes": {"colour": tallies},
        "original_sizes": sizes,
        "near_duplicates": (("a", "b"), ("c", "d", "e")),
    }
    told = text(found.model_copy(update=many))
    assert "sizes of the originals: 108 × 90 (8,000), 107 × 90 (7,000)" in told
    assert "103 × 90 (3,000) and 2 others\n" in told
    assert re.search(r"\n  colour 4 +4 +1 +2 +7  ", told)
    assert "colour 3" not in told
    assert re.search(r"\n  3 others +6 +3 +6 +15  █", told), "3 + 2 + 1 of train, and so on"
    assert "near-duplicates: 2 groups, 5 photos" in told
    few = text(found.model_copy(update={"original_sizes": sizes[:6]}))
    assert "103 × 90 (3,000)\n" in few


def test_data_sets_made_before_there_were_descriptions_have_one(tmp_path: Path) -> None:
    """Their manifests say nothing about sizes and near-duplicates; the shipped one is such a data set."""
    shipped = PROJECT_ROOT / "data" / "demo" / "casual_shoes"
    found = describe(shipped)
    assert (found.original_sizes, found.near_duplicates) == (None, None)
    assert found.photos.total == 400
    assert "not kept when this data set was made" in text(found)
    Page((write_description(shipped, tmp_path / "d") / "index.html").read_text())


@pytest.mark.parametrize(
    "source", [{"original_sizes": [1], "near_duplicates": {"a": 1}}, {"original_sizes": {"x": "y"}}]
)
def test_a_manifest_with_odd_words_about_its_source_is_read(source: dict[str, object], data_set: Path) -> None:
    manifest = json.loads((data_set / MANIFEST).read_text())
    (data_set / MANIFEST).write_text(pretty_json({**manifest, "source": source}))
    assert describe(data_set).photos.total == 40


def test_only_a_description_is_ever_replaced(data_set: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="is no description"):
        write_page(data_set, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    write_page(data_set, tmp_path / "page")
    shutil.rmtree(data_set)
    import_data_set(tmp_path / "catalogue", data_set, DataSpec(seed=1), resolution=32)
    assert write_page(data_set, tmp_path / "page").fingerprint == describe(data_set).fingerprint


def test_the_text_is_a_table_that_fits_a_terminal(data_set: Path) -> None:
    lines = text(describe(data_set)).splitlines()
    assert lines[0] == "set: 40 photos of 32 px, 4 captions"
    assert [line.split() for line in lines if line.startswith("photos")] == [["photos", "28", "6", "6", "40"]]
    assert any(line.startswith("  Navy Blue") for line in lines)
    assert max(len(line) for line in lines if not line.startswith("note: ")) <= 90
