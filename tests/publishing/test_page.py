"""The page is whole in itself, says all that was found, and trusts no text that it shows."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from shoes.publishing.page import current, gather, render, write
from shoes.publishing.page.state import state
from shoes.reports import NightReport
from tests.publishing import sample_night as sample

VOID = {"meta", "link", "img", "br", "input", "hr", "use", "path"}
HOSTILE = '$\\frac{1}{0}$ <script>alert("x")</script> & "quoted" \u978b'


@dataclass
class Page(HTMLParser):
    """The parts of a page that the tests ask about."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open_tags.pop() == tag, f"{tag} is closed out of turn"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open_tags):
            self.text += data

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def read(night: NightReport) -> Page:
    page = Page()
    page.feed(render(gather(night)))
    page.close()
    assert page.open_tags == []
    return page


def alarmed(folder: Path) -> NightReport:
    alarm = sample.memorisation(folder, fires=True, reason="Drawn pictures are closer to training photos.", z=5.2)
    return sample.night(folder, promoted=False, evaluation=sample.evaluation(folder / "e", memorisation=alarm))


def compared(folder: Path, mean: float, **changes: Any) -> NightReport:
    found = sample.evaluation(folder / "e", comparisons=(sample.comparison("base", mean, 1.0, **changes),))
    return sample.night(folder, promoted=False, evaluation=found)


NIGHTS: dict[str, tuple[Callable[[Path], NightReport], str]] = {
    "promoted": (sample.night, "promoted"),
    "worse": (lambda folder: compared(folder, -3.0), "not promoted"),
    "better but not promoted": (lambda folder: compared(folder, 3.0), "not promoted"),
    "unclear": (lambda folder: compared(folder, 0.2), "no difference"),
    "identical": (lambda folder: compared(folder, 0.0, identical=True), "no difference"),
    "alarm": (alarmed, "alarm"),
    "bare": (sample.bare, "promoted"),
    "small": (sample.small, "no verdict"),
}


@pytest.mark.parametrize("case", NIGHTS)
def test_every_night_is_a_page_that_needs_nothing_else(tmp_path: Path, case: str) -> None:
    make, expected = NIGHTS[case]
    night = make(tmp_path / "run")
    page = read(night)
    assert state(night).name == expected
    assert [p["data-state"] for p in page.all("p") if "data-state" in p] == [expected]
    assert night.verdict in page.text
    addresses = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert all("http" not in attributes.get("style", "") for _, attributes in page.tags)
    images = page.all("img")
    assert len(images) > 1
    assert all(image["alt"] for image in images[:-1]), "the last one is the zoom's, empty until it is opened"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(address[1:] in ids for address in addresses if address.startswith("#"))


def test_every_number_that_was_found_is_there(tmp_path: Path) -> None:
    text = read(sample.night(tmp_path / "run")).text
    for number in (
        *("+4.21", "+3.11", "+5.31", "+8.42", "+0.84", "−12.40", "−0.0042"),  # comparisons
        *("26.11", "30.32", "29.48", "31.87", "22.05", "60.45", "−0.40 ± 2.20", "0.1312"),  # arms
        *("0.71", "0.44", "0.93", "0.66", "12.50"),  # spread
        *("Navy Blue", "−0.10 (−1.00 to +0.80)", "Tan"),  # breakdown
        *("0.1294", "+0.0005 (−0.0001 to +0.0011)", "40.10 ± 5.00"),  # checkpoints
        *("0.84", "45.0 %", "0.31", "97.3", "78.3"),  # memorisation
        *(
            "step 812",
            "micro-batches of 1",
            "fp16 computes wrong",
            "MLflow did not answer",
            "taken up again at step 1,100",
        ),
        *("6 h 23 min", "6 h 52 min", "−7 %", "9.1 GB", "4.7 GB", "0.11 %"),  # forecast, machine, parity
        *("learning_rate", "2.13.0", "DINOv2 could not be had", "FID is mostly bias", "version 7"),
    ):
        assert number in text, number
    assert "76.3" not in text, "of the pairs the twenty nearest are shown"


def test_what_was_not_measured_is_not_shown(tmp_path: Path) -> None:
    text = read(sample.bare(tmp_path / "run")).text
    for word in ("second CLIP", "CMMD ± 2 SE", "None", "Nothing", "nan"):
        assert word not in text, word
    assert "Was not looked for this night" in text


def test_a_night_on_too_few_photos_says_why_and_has_no_number_for_it(tmp_path: Path) -> None:
    text = read(sample.small(tmp_path / "run")).text
    assert text.count("2 pictures can't tell chance from gain") >= 3, "verdict, numbers and decision"
    for words in ("too few validation photos", "no distances (CMMD)", "Give it photos to be judged by", "49.39"):
        assert words in text, words
    for word in ("None", "nan", "interval over", "± –"):
        assert word not in text, word


def test_texts_from_outside_stay_texts(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    breakdown = sample._breakdowns()[0].model_copy(update={"value": HOSTILE})
    found = sample.evaluation(
        folder / "e", gallery=sample.gallery(folder, (HOSTILE,)), breakdowns=(breakdown,), notes=(HOSTILE,)
    )
    night = sample.night(folder, evaluation=found, verdict=HOSTILE, recipe=HOSTILE)
    page = read(night)
    assert len(page.all("script")) == 1
    assert page.text.count('<script>alert("x")</script>') > 4
    assert any(HOSTILE in image["alt"] for image in page.all("img"))
    drawn = re.findall("<text [^>]*>([^<]*)</text>", render(gather(night)))
    assert any(text.startswith(HOSTILE[:13]) for text in drawn), "what looks like a formula is drawn as it is written"


def test_a_picture_that_is_gone_leaves_a_gap(tmp_path: Path) -> None:
    night = sample.night(tmp_path / "run")
    night.evaluation.gallery[0].pictures["base"].unlink()
    night.evaluation.gallery[1].pictures["base"].write_bytes(b"\x89PNG no more")
    assert read(night).text.count("the picture is gone") == 2


def test_what_lies_beside_the_report_may_be_missing(tmp_path: Path) -> None:
    night = sample.night(tmp_path / "run")
    for name in ("spec.toml", "environment.json", "journal.jsonl"):
        (tmp_path / "run" / name).unlink()
    text = read(night).text
    assert "not in the run's folder any more" in text
    assert night.verdict in text


def test_secrets_of_an_address_are_not_shown(tmp_path: Path) -> None:
    page = render(gather(sample.night(tmp_path / "run")))
    assert "tracking.example:5000" in page
    assert "hunter2" not in page


def test_equal_nights_are_equal_bytes_and_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = shutil.disk_usage(tmp_path)  # others write, too
    monkeypatch.setattr("shoes.publishing.page.evidence.shutil.disk_usage", lambda folder: disk)
    night = sample.night(tmp_path / "run")
    page = write(night)
    first, written = page.read_bytes(), page.stat().st_mtime_ns
    assert write(night) == page
    assert page.stat().st_mtime_ns == written
    page.unlink()
    assert write(night).read_bytes() == first
    other = night.model_copy(update={"verdict": "Another verdict."})
    assert not current(page, other)
    assert b"Another verdict." in write(other).read_bytes()


def test_a_whole_night_at_full_size_takes_some_megabytes(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "run"
    rows = sample.gallery(folder, tuple(f"caption {number}" for number in range(12)))
    noise = Image.effect_noise((512, 512), 40).convert("RGB").resize((128, 128)).resize((512, 512))
    for row in rows:
        for file in (*row.pictures.values(), row.real, row.nearest):
            noise.save(file)
    night = sample.night(folder, evaluation=sample.evaluation(folder / "e", gallery=rows))
    assert write(night).stat().st_size < 8 * 2**20


def test_night_json_brings_the_timeline_back(tmp_path: Path) -> None:
    night = sample.night(tmp_path / "run")
    assert NightReport.model_validate_json(night.model_dump_json()) == night
    assert json.loads(night.model_dump_json())["timeline"][6]["tries"] == 2
