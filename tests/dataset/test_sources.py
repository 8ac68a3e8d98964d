"""Folders of every layout: what they hold decides how they are read."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from shoes.dataset import import_data_set, load_split, require_source
from shoes.errors import DataError
from shoes.preflight import preflight
from shoes.reports import DataReport
from shoes.spec import DataSpec

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
Contents = Callable[[Path], dict[str, bytes]]
SPLITS = ("train", "val", "test")
SIZE = 24


@pytest.fixture
def photos(draw: Draw, tmp_path: Path) -> Path:
    """24 photos, half of them in a subfolder."""
    source = tmp_path / "photos"
    (source / "more").mkdir(parents=True)
    for number in range(SIZE):
        folder = source / "more" if number % 2 else source
        draw(number).save(folder / f"shoe {number}.jpg", quality=95)
    return source


def names(source: Path) -> list[str]:
    return sorted(path.relative_to(source).as_posix() for path in source.rglob("*.jpg"))


def caption(name: str) -> str:
    return f"a drawing called {Path(name).stem}"


def _texts(source: Path) -> None:
    for name in names(source):
        (source / name).with_suffix(".txt").write_text(f"\ufeff  {caption(name)}\n", encoding="utf-8")


def _list(source: Path, image: str = "image_file", text: str = "caption") -> None:
    entries = [{image: name, text: caption(name), "colour": "Red", "season": None} for name in names(source)]
    (source / "captions.json").write_text(json.dumps(entries))


def _object(source: Path) -> None:
    (source / "captions.json").write_text(json.dumps({name: caption(name) for name in names(source)}))


def _lines(source: Path) -> None:
    lines = [json.dumps({"file_name": name, "text": caption(name)}) for name in names(source)]
    (source / "metadata.jsonl").write_text("\n".join(lines))


def _table(source: Path) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["file_name", "text"], *([name, caption(name)] for name in names(source))])
    (source / "metadata.csv").write_text(text.getvalue())


def _table_in_each_folder(source: Path) -> None:
    for folder in (source, source / "more"):
        entries = [{"image": path.name, "text": caption(path.name)} for path in sorted(folder.glob("*.jpg"))]
        (folder / "captions.json").write_text(json.dumps(entries))


LAYOUTS = {
    "text files": _texts,
    "captions.json as list": _list,
    "captions.json with other names": lambda source: _list(source, "file_name", "text"),
    "captions.json as object": _object,
    "metadata.jsonl": _lines,
    "metadata.csv": _table,
    "tables in subfolders": _table_in_each_folder,
}


def bring(source: Path | str, target: Path, **spec: object) -> DataReport:
    return import_data_set(source, target, DataSpec(**spec), resolution=32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_captions_are_kept_as_they_are(layout: str, photos: Path, tmp_path: Path) -> None:
    LAYOUTS[layout](photos)
    report = bring(photos, tmp_path / "set")
    records = {r.image.stem: r for s in SPLITS for r in load_split(tmp_path / "set" / s, resolution=32)}
    assert {name: r.caption for name, r in records.items()} == {
        f"shoe-{n}": f"a drawing called shoe {n}" for n in range(SIZE)
    }
    source = json.loads((tmp_path / "set/manifest.json").read_text())["source"]
    assert (source["kind"], source["name"], source["products"]) == ("captioned images", "photos", SIZE)
    assert "filters" not in source
    assert source["original_sizes"] == {"56 × 40": SIZE}
    if layout != "captions.json as list":
        note = "all photos taken: the source has no column for the default filter, articleType = Casual Shoes"
        assert note in report.notes
    if layout.startswith("captions.json as list"):
        assert {r.attributes["colour"] for r in records.values()} == {"Red"}


def test_the_same_photos_give_the_same_bytes_whatever_names_them(
    photos: Path, tmp_path: Path, contents: Contents
) -> None:
    _texts(photos)
    bring(photos, tmp_path / "a")
    shutil.copytree(photos, tmp_path / "copy" / "photos")
    bring(tmp_path / "copy" / "photos", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_does_not_match_is_counted_and_listed(photos: Path, tmp_path: Path) -> None:
    entries = [{"image_file": name, "caption": caption(name)} for name in names(photos)]
    entries[0].pop("caption")  # this photo has no caption, then
    spoiled = [
        {"image_file": "gone.jpg", "caption": "x"},
        {"caption": "x"},
        7,
        entries[1],
        {**entries[2], "caption": "\ud800"},
    ]
    (photos / "captions.json").write_text(json.dumps([*entries[:2], *entries[3:], *spoiled]))
    report = bring(photos, tmp_path / "set")
    assert sum(split.num_images for split in report.splits) == SIZE - 2
    assert "5 entries of the captions left out (listed in unreadable_lines.txt)" in report.notes
    assert "1 caption without a photo (listed in missing_images.txt)" in report.notes
    assert "2 photos without a caption left out (listed in uncaptioned_images.txt)" in report.notes
    assert (tmp_path / "set/missing_images.txt").read_text() == "gone.jpg (captions.json, entry 24)\n"
    assert (tmp_path / "set/uncaptioned_images.txt").read_text().splitlines() == [names(photos)[0], names(photos)[2]]
    unreadable = (tmp_path / "set/unreadable_lines.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in unreadable] == [
        "captions.json, entry 1",
        *(f"captions.json, entry {n}" for n in (25, 26, 27, 28)),
    ]


def test_attributes_without_a_caption_are_for_the_template(photos: Path, tmp_path: Path) -> None:
    entries = [
        {"image_file": name, "baseColour": "Black" if n % 2 else "Red", "gender": "Women", "maker": "x"}
        for n, name in enumerate(names(photos))
    ]
    (photos / "captions.json").write_text(json.dumps(entries))
    bring(photos, tmp_path / "set", filters={"base_colour": "red"}, val_fraction=0.2, test_fraction=0.2)
    records = [r for s in SPLITS for r in load_split(tmp_path / "set" / s)]
    assert len(records) == SIZE // 2
    assert records[0].caption.startswith("A professional product photo of red casual shoes, women,")
    assert (records[0].attributes["colour"], records[0].attributes["maker"]) == ("Red", "x")
    assert json.loads((tmp_path / "set/manifest.json").read_text())["source"]["filters"] == {"base_colour": "red"}


def test_a_filter_that_was_asked_for_must_have_its_column(photos: Path, tmp_path: Path) -> None:
    _list(photos)
    with pytest.raises(DataError, match=r"has no column size[\s\S]*use one of colour"):
        bring(photos, tmp_path / "set", filters={"size": "9"})
    _object(photos)
    with pytest.raises(DataError, match=r"filters\.gender[\s\S]*leave the filter out"):
        bring(photos, tmp_path / "set", filters={"gender": "Men"})


def test_two_captions_of_one_photo_are_a_contradiction(photos: Path, tmp_path: Path) -> None:
    _object(photos)
    _lines(photos)
    bring(photos, tmp_path / "agree")
    (photos / "shoe 0.txt").write_text("something else")
    with pytest.raises(DataError, match="has two captions") as caught:
        bring(photos, tmp_path / "set")
    assert [problem.where for problem in caught.value.problems] == ["shoe 0.jpg"]
    for name in names(photos):
        (photos / name).with_suffix(".txt").write_text("something else")
    with pytest.raises(DataError, match="14 more images with two captions"):
        bring(photos, tmp_path / "set")


def test_photos_of_one_name_get_ids_of_their_own(draw: Draw, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    places = [
        "a/x.jpg",
        "b/x.jpg",
        "b/X.png",
        "c/é.jpg",
        "c/ñandú 1.jpg",
        "日本.jpg",
        "c/日.jpg",
        "-.jpg",
        "x y.jpg",
        "x-y.jpg",
    ]
    for number, name in enumerate([*places, *(f"n{n}.jpg" for n in range(10))]):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        draw(number).save(source / name)
        (source / name).with_suffix(".txt").write_text(caption(name))
    bring(source, tmp_path / "set")
    found = {r.attributes["id"] for s in SPLITS for r in load_split(tmp_path / "set" / s)}
    assert len(found) == 20
    assert {"a-x", "e", "nandu-1", "n0"} <= found
    assert all(name.isascii() for name in found)


def test_a_file_name_written_by_a_mac_is_the_same_name(photos: Path, draw: Draw, tmp_path: Path) -> None:
    draw(99).save(photos / "cafe\u0301.jpg")
    said = {name: "x" for name in names(photos) if not name.startswith("caf")}
    (photos / "captions.json").write_text(json.dumps({**said, "caf\u00e9.jpg": "coffee"}))
    report = bring(photos, tmp_path / "set")
    assert sum(split.num_images for split in report.splits) == SIZE + 1


@pytest.mark.parametrize("nested", ["fashion-dataset", "fashion-dataset/fashion-dataset", "myntradataset"])
def test_a_catalogue_one_or_two_folders_down_is_found(nested: str, make_catalogue: Make, tmp_path: Path) -> None:
    source = tmp_path / "archive"
    (source / nested).parent.mkdir(parents=True)
    shutil.move(make_catalogue(), source / nested)
    report = bring(source, tmp_path / "set")
    assert report.notes[0] == f"the catalogue was found in {nested}/"
    assert sum(split.num_images for split in report.splits) == 40


def test_the_copy_inside_the_catalogue_is_left_alone(make_catalogue: Make, tmp_path: Path) -> None:
    source = make_catalogue()
    shutil.copytree(source, tmp_path / "copy")
    shutil.move(tmp_path / "copy", source / "myntradataset")
    assert sum(split.num_images for split in bring(source, tmp_path / "set").splits) == 40


def _two_catalogues(source: Path, catalogue: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(catalogue, source / name)


def _catalogue_with_captions(source: Path, catalogue: Path) -> None:
    shutil.copytree(catalogue, source, dirs_exist_ok=True)
    (source / "captions.json").write_text("{}")


def _nested_with_captions(source: Path, catalogue: Path) -> None:
    shutil.copytree(catalogue, source / "one")
    (source / "metadata.jsonl").write_text("{}")


def _photos_alone(source: Path, catalogue: Path) -> None:
    shutil.copytree(catalogue / "images", source / "images")


def _no_images(source: Path, catalogue: Path) -> None:
    shutil.copy(catalogue / "styles.csv", source)
    shutil.copytree(catalogue / "images", source / "pictures")


def _archive(source: Path, catalogue: Path) -> None:
    (source / "archive.zip").write_bytes(b"PK")


def _empty_captions(source: Path, catalogue: Path) -> None:
    _photos_alone(source, catalogue)
    (source / "captions.json").write_text("[]")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_two_catalogues, "more than one layout: one/styles.csv, two/styles.csv"),
        (_catalogue_with_captions, "more than one layout: styles.csv, captions.json"),
        (_nested_with_captions, "more than one layout: one/styles.csv, metadata.jsonl"),
        (_photos_alone, "holds 40 photos .images/100.jpg, …., and neither styles.csv nor captions"),
        (_no_images, "is missing, and styles.csv is there"),
        (_archive, "holds no photos; it holds archive.zip"),
    ],
)
def test_layouts_that_are_not_understood_say_what_was_found(
    make: Callable[[Path, Path], None], words: str, make_catalogue: Make, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make(source, make_catalogue())
    with pytest.raises(DataError, match=words) as caught:
        require_source(source)
    assert len(caught.value.problems) == 1


def test_captions_that_name_no_photo_are_an_error(make_catalogue: Make, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    _empty_captions(source, make_catalogue())
    with pytest.raises(DataError, match="give no caption for any of the 40 photos"):
        bring(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_prepared_data_set_is_no_source(data_set: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a prepared data set already"):
        require_source(data_set)


def test_a_table_never_leads_out_of_its_folder(photos: Path, draw: Draw, tmp_path: Path) -> None:
    draw(500).save(tmp_path / "secret.jpg")
    outside = {"../secret.jpg": "x", str(tmp_path / "secret.jpg"): "y"}
    (photos / "captions.json").write_text(json.dumps({**{name: caption(name) for name in names(photos)}, **outside}))
    report = bring(photos, tmp_path / "set")
    assert sum(split.num_images for split in report.splits) == SIZE
    assert "2 captions without a photo (listed in missing_images.txt)" in report.notes


def test_the_stage_imports_and_describes_once(photos: Path, own_world: Path) -> None:
    from shoes import recipes, stages

    _texts(photos)
    recipe = recipes.load("demo", {"data.source": str(photos), "data.dataset_dir": "data/mine"})
    preflight(recipe)
    report = stages.prepare_data(recipe)
    assert report.path == own_world / "data" / "mine"
    assert report.description is not None
    assert (report.description / "index.html").is_file()
    shutil.rmtree(photos)
    again = stages.prepare_data(recipe)
    assert again.model_copy(update={"seconds": report.seconds}) == report


def test_a_bad_source_is_found_before_the_night(own_world: Path) -> None:
    from shoes import recipes
    from shoes.errors import ConfigurationError

    for source in ("hub:nothing", str(own_world / "nowhere")):
        recipe = recipes.load("demo", {"data.source": source, "data.dataset_dir": "data/mine"})
        with pytest.raises(ConfigurationError, match=r"is no id|is no folder"):
            preflight(recipe)
