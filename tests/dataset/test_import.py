import json
import os
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from shoes.dataset import Product, import_data_set, load_split, verify, write_data_set
from shoes.errors import DataError
from shoes.spec import DataSpec
from shoes.storage import damage, sha256

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
Contents = Callable[[Path], dict[str, bytes]]
SPLITS = ("train", "val", "test")


def test_the_layout_is_that_of_the_contract(make_catalogue: Make, tmp_path: Path, spec: DataSpec) -> None:
    target = tmp_path / "data" / "set"
    report = import_data_set(make_catalogue(), target, spec, resolution=32)
    assert {p.name for p in target.iterdir()} == {*SPLITS, "manifest.json"}
    assert [s.num_images for s in report.splits] == [28, 6, 6]
    assert report.path == target.resolve()
    assert report.fingerprint == sha256(target / "manifest.json")
    for split in SPLITS:
        entries = json.loads((target / split / "captions.json").read_text())
        lines = [json.loads(line) for line in (target / split / "metadata.jsonl").read_text().splitlines()]
        assert [line["file_name"] for line in lines] == [f"images/{e['image_file']}" for e in entries]
        assert [line["text"] for line in lines] == [e["caption"] for e in entries]
        for entry in entries:
            with Image.open(target / split / "images" / entry["image_file"]) as image:
                assert (image.size, image.mode, image.info) == ((32, 32), "RGB", {})
            assert entry["name"] == f"Shoe {entry['id']}"
            assert entry["image_file"] == f"{entry['id']}.png"
            assert set(entry) >= {"gender", "colour", "season", "year", "usage", "article"}
    assert damage(target) == []
    assert verify(target, resolution=32).fingerprint == report.fingerprint


def test_the_manifest_holds_no_path_and_no_clock(data_set: Path, tmp_path: Path) -> None:
    text = (data_set / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert time.strftime("%Y-%m") not in text
    assert json.loads(text)["source"]["name"] == "catalogue"


def test_a_second_import_is_equal_byte_for_byte(
    make_catalogue: Make, tmp_path: Path, spec: DataSpec, contents: Contents
) -> None:
    """From another place, with the lines of styles.csv and the files in another order."""
    source = make_catalogue()
    lines = (source / "styles.csv").read_text().splitlines()
    other = tmp_path / "elsewhere" / "catalogue"
    (other / "images").mkdir(parents=True)
    (other / "styles.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    for photo in sorted((source / "images").iterdir(), reverse=True):
        shutil.copy(photo, other / "images" / photo.name)
    import_data_set(source, tmp_path / "a", spec, resolution=32)
    import_data_set(source, tmp_path / "b", spec, resolution=32)
    import_data_set(other, tmp_path / "c", spec, resolution=32)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    different = contents(tmp_path / "c")
    assert json.loads(different.pop("manifest.json"))["source"].pop("styles_sha256") == sha256(other / "styles.csv")
    assert different == {k: v for k, v in contents(tmp_path / "a").items() if k != "manifest.json"}


def test_another_seed_is_another_split(make_catalogue: Make, tmp_path: Path) -> None:
    source = make_catalogue()
    for seed in (1, 2):
        import_data_set(source, tmp_path / str(seed), DataSpec(seed=seed), resolution=32)
    one, two = ({r.image.name for r in load_split(tmp_path / s / "val")} for s in ("1", "2"))
    assert one != two


def test_broken_lines_are_recovered_or_listed(make_catalogue: Make, row: Callable[..., str], tmp_path: Path) -> None:
    lines = (
        row("900", "Black").replace("A Shoe", "A Shoe, Limited Edition, 2 Pack"),
        row("901", "Black").replace("A Shoe", '"Nike 3.5"" Shoe"'),
        row("902", "Black").replace("Men", '"Men'),  # a stray quotation mark costs this line only
        "903,Men",
        "",
        row("../../evil", "Black"),
        row("100", "Brown", "repeats an id"),
        row("904", "NA"),
    )
    source = make_catalogue(lines=lines)
    for number in (900, 901, 904):
        shutil.copy(source / "images" / "100.jpg", source / "images" / f"{number}.jpg")
    report = import_data_set(source, tmp_path / "set", DataSpec(), resolution=32)
    records = {r.attributes["id"]: r for s in SPLITS for r in load_split(tmp_path / "set" / s)}
    assert records["900"].attributes["name"] == "A Shoe, Limited Edition, 2 Pack"
    assert records["901"].attributes["name"] == 'Nike 3.5" Shoe'
    assert records["100"].attributes["name"] == "Shoe 100"
    assert records["904"].caption.startswith("A professional product photo of casual shoes, fall")
    assert report.notes[0] == "1 line with extra commas recovered"
    assert report.notes[1] == "4 lines of styles.csv left out (listed in unreadable_lines.txt)"
    unreadable = (tmp_path / "set" / "unreadable_lines.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in unreadable] == ["line 44", "line 45", "line 47", "line 48"]


def test_missing_and_damaged_photos_are_counted_and_listed(make_catalogue: Make, tmp_path: Path) -> None:
    source = make_catalogue()
    images = source / "images"
    (images / "101.jpg").unlink()
    (images / "102.jpg").write_bytes(b"")
    (images / "103.jpg").write_bytes((images / "103.jpg").read_bytes()[:300])
    (images / "104.jpg").write_text("<html>404</html>")
    (images / "._105.jpg").write_bytes(b"resource fork")
    (images / ".DS_Store").write_bytes(b"finder")
    report = import_data_set(source, tmp_path / "set", DataSpec(), resolution=32)
    assert sum(s.num_images for s in report.splits) == 36
    assert "1 row without a photo (listed in missing_images.txt)" in report.notes
    assert "3 damaged photos left out (listed in damaged_images.txt)" in report.notes
    assert (tmp_path / "set" / "missing_images.txt").read_text() == "images/101.jpg\n"
    listed = (tmp_path / "set" / "damaged_images.txt").read_text()
    assert [line.split(":")[0] for line in listed.splitlines()] == [f"images/10{n}.jpg" for n in (2, 3, 4)]
    assert str(tmp_path) not in listed
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["source"]["missing_images"] == 1
    assert manifest["source"]["damaged_images"] == 3
    assert {"missing_images.txt", "damaged_images.txt"} < manifest["files"].keys()


def test_filters_take_columns_by_either_name(make_catalogue: Make, row: Callable[..., str], tmp_path: Path) -> None:
    source = make_catalogue(lines=(row("900", "Black", article="Heels"),))
    shutil.copy(source / "images" / "100.jpg", source / "images" / "900.jpg")
    for name in ("articleType", "article_type"):
        report = import_data_set(source, tmp_path / name, DataSpec(filters={name: "casual shoes"}), resolution=32)
        assert sum(s.num_images for s in report.splits) == 40
    everything = import_data_set(source, tmp_path / "all", DataSpec(filters={}), resolution=32)
    assert sum(s.num_images for s in everything.splits) == 41


def test_near_duplicates_stay_together(make_catalogue: Make, row: Callable[..., str], tmp_path: Path) -> None:
    twins = [str(n) for n in range(900, 912)]
    source = make_catalogue(lines=tuple(row(t, "Brown") for t in twins))
    for n, twin in enumerate(twins):
        with Image.open(source / "images" / f"{100 + n}.jpg") as photo:
            photo.save(source / "images" / f"{twin}.jpg", quality=60)
    report = import_data_set(source, tmp_path / "set", DataSpec(), resolution=32)
    split_of = {r.attributes["id"]: s for s in SPLITS for r in load_split(tmp_path / "set" / s)}
    assert len(split_of) == 52
    assert all(split_of[str(100 + n)] == split_of[twin] for n, twin in enumerate(twins))
    assert "12 groups of near-duplicate photos, 24 photos, each kept in one split" in report.notes


def test_max_images_is_met_though_photos_are_damaged(make_catalogue: Make, tmp_path: Path) -> None:
    source = make_catalogue()
    for number in range(100, 112):
        (source / "images" / f"{number}.jpg").write_bytes(b"damaged")
    told: list[tuple[int, int]] = []
    report = import_data_set(
        source,
        tmp_path / "set",
        DataSpec(max_images=20),
        resolution=32,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert sum(s.num_images for s in report.splits) == 20
    assert told[-1] == (20, 20)
    assert all(one <= two for one, two in pairwise(told))


def _no_styles(source: Path) -> None:
    (source / "styles.csv").unlink()


def _nothing(source: Path) -> None:
    _no_styles(source)
    shutil.rmtree(source / "images")


def _no_photos(source: Path) -> None:
    for photo in (source / "images").iterdir():
        photo.unlink()


def _all_damaged(source: Path) -> None:
    for photo in (source / "images").iterdir():
        photo.write_bytes(b"damaged")


def _other_table(source: Path) -> None:
    (source / "styles.csv").write_text("id,colour\n1,Black\n")


def _latin_1(source: Path) -> None:
    (source / "styles.csv").write_bytes((source / "styles.csv").read_bytes() + b"\xe9\n")


def _empty_table(source: Path) -> None:
    (source / "styles.csv").write_text("\n")


@pytest.mark.parametrize(
    ("spoil", "num_problems", "words"),
    [
        (shutil.rmtree, 1, "is no folder"),
        (_no_styles, 1, "neither styles.csv nor captions"),
        (_nothing, 1, "holds no photos; it holds nothing"),
        (_no_photos, 1, "no photo of the 40 products"),
        (_all_damaged, 41, "0 usable photos of 40 products"),
        (_other_table, 1, "no column gender, baseColour, season"),
        (_latin_1, 1, "is not UTF-8"),
        (_empty_table, 1, "is empty"),
    ],
)
def test_a_bad_source_gives_one_error_and_leaves_nothing(
    spoil: Callable[[Path], None], num_problems: int, words: str, make_catalogue: Make, tmp_path: Path
) -> None:
    source = make_catalogue()
    spoil(source)
    with pytest.raises(DataError, match=words) as caught:
        import_data_set(source, tmp_path / "out" / "set", DataSpec(), resolution=32)
    assert len(caught.value.problems) == num_problems
    assert all(problem.fix for problem in caught.value.problems)
    assert not list(tmp_path.glob("out/*"))
    assert not list(tmp_path.glob("out/.*"))


def test_bad_filters_name_the_columns_and_the_values(make_catalogue: Make, tmp_path: Path) -> None:
    source = make_catalogue()
    with pytest.raises(DataError, match="productDisplayName") as caught:
        import_data_set(source, tmp_path / "o", DataSpec(filters={"brand": "x", "size": "9"}), resolution=32)
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match=r"Casual Shoes \(40\)"):
        import_data_set(source, tmp_path / "o", DataSpec(filters={"articleType": "Boots"}), resolution=32)
    assert not (tmp_path / "o").exists()


def test_only_a_data_set_is_ever_replaced(
    make_catalogue: Make, data_set: Path, tmp_path: Path, spec: DataSpec, contents: Contents
) -> None:
    source = make_catalogue(name="other", first=500)
    photos = tmp_path / "my photos"
    photos.mkdir()
    (photos / "wedding.jpg").write_bytes(b"dear")
    for target in (photos, source, tmp_path, source / "styles.csv"):
        before = contents(tmp_path)
        with pytest.raises(DataError, match="--out"):
            import_data_set(source, target, spec, resolution=32)
        assert contents(tmp_path) == before
    inside = data_set / "downloaded"
    shutil.copytree(source, inside)
    with pytest.raises(DataError, match="holds the source itself"):
        import_data_set(inside, data_set, spec, resolution=32)
    assert inside.is_dir()
    before = contents(data_set)
    with pytest.raises(DataError, match=r"from another source, catalogue[\s\S]*--out"):
        import_data_set(source, data_set, spec, resolution=32)
    assert contents(data_set) == before
    newer = make_catalogue(name="newer/catalogue", first=500)
    import_data_set(newer, data_set, spec, resolution=32)
    assert all(int(r.attributes["id"]) >= 500 for r in load_split(data_set / "train"))


def test_photos_that_had_to_be_enlarged_are_counted(make_catalogue: Make, tmp_path: Path, spec: DataSpec) -> None:
    source = make_catalogue()
    with Image.open(next(iter((source / "images").iterdir()))) as photo:
        width, height = photo.size
    larger = import_data_set(source, tmp_path / "larger", spec, resolution=2 * max(width, height))
    assert any(f"40 of 40 photos had to be enlarged to {2 * max(width, height)} px" in n for n in larger.notes)
    smaller = import_data_set(source, tmp_path / "smaller", spec, resolution=32)
    assert not any("enlarged" in note for note in smaller.notes)


def test_products_in_memory_make_the_same_layout(draw: Draw, tmp_path: Path, spec: DataSpec) -> None:
    def load(n: int) -> Callable[[], Image.Image]:
        return lambda: draw(n)

    products = [Product(f"drawn-{n}", {"colour": "Black", "season": "Fall"}, load(n)) for n in range(20)]
    report = write_data_set(tmp_path / "a", products, spec, resolution=24, source={"name": "drawn"})
    write_data_set(tmp_path / "b", products[::-1], spec, resolution=24, source={"name": "drawn"})
    assert [s.num_images for s in report.splits] == [14, 3, 3]
    assert verify(tmp_path / "b").fingerprint == report.fingerprint
    assert load_split(tmp_path / "a" / "val")[0].attributes["colour"] == "Black"


def test_products_in_memory_need_good_ids(draw: Draw, tmp_path: Path, spec: DataSpec) -> None:
    products = [Product(name, {}, lambda: draw(1)) for name in ("a", "A", "../b", "", "é", "x" * 101)]
    with pytest.raises(DataError) as caught:
        write_data_set(tmp_path / "set", products, spec, resolution=24, source={})
    assert len(caught.value.problems) == 5
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - hidden files too
