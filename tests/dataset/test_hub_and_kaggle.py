"""Data sets of the Hub, by the real client from a Hub on this machine, and of Kaggle."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from PIL import Image

from shoes.dataset import import_data_set, load_split, require_source, verify
from shoes.dataset.addresses import HubAddress, KaggleAddress, parse_address
from shoes.errors import DataError, TransientError
from shoes.spec import DataSpec
from tests.hub.server import HubServer

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
Contents = Callable[[Path], dict[str, bytes]]
SPLITS = ("train", "val", "test")


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("ashraq/fashion-product-images-small", HubAddress("ashraq/fashion-product-images-small")),
        ("hub:owner/name", HubAddress("owner/name")),
        ("hub:owner/name@refs/convert/parquet", HubAddress("owner/name", "refs/convert/parquet")),
        ("owner/name@v1.0", HubAddress("owner/name", "v1.0")),
        ("kaggle:owner/name", KaggleAddress("owner/name")),
        ("kaggle:owner/name@3", KaggleAddress("owner/name/versions/3")),
        ("kaggle:owner/name/versions/3", KaggleAddress("owner/name/versions/3")),
    ],
)
def test_addresses(source: str, address: object) -> None:
    assert parse_address(source) == address
    require_source(source)


@pytest.mark.parametrize("source", ["/a/b", "./owner/name", "../name", "photos", "a/b/c", "~/photos", "data/shoes"])
def test_folders_are_folders(source: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert parse_address(source) == Path(source).expanduser().absolute()
    with pytest.raises(DataError, match="is no folder"):
        require_source(source)


def test_a_folder_that_is_there_comes_before_the_hub(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert parse_address("owner/name") == tmp_path / "owner" / "name"


@pytest.mark.parametrize(
    "source", ["hub:name", "hub:a/b/c", "hub:owner/na me", "hub:owner/name@", "kaggle:x", "kaggle:a/b@v3"]
)
def test_ids_of_another_form_are_refused_without_a_network(source: str) -> None:
    with pytest.raises(DataError, match=r"is no id of a data set on[\s\S]*write it like"):
        require_source(source)


@pytest.fixture
def parquet(draw: Draw, tmp_path: Path) -> Path:
    """A repository as that of the catalogue on the Hub: 60 rows in two files, 40 of casual shoes."""
    import datasets

    rows = [
        {
            "id": 100 + n,
            "gender": "Men",
            "articleType": "Heels" if n % 3 == 2 else "Casual Shoes",
            "baseColour": ("Black", "White")[n % 2],
            "season": "Fall",
            "year": 2011.0,
            "usage": "Casual",
            "productDisplayName": f"Shoe, {n}",
            "image": draw(n),
        }
        for n in range(60)
    ]
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            **dict.fromkeys(("gender", "articleType"), datasets.Value("string")),
            "baseColour": datasets.ClassLabel(names=["Black", "White"]),
            "season": datasets.Value("string"),
            "year": datasets.Value("float64"),
            **dict.fromkeys(("usage", "productDisplayName"), datasets.Value("string")),
            "image": datasets.Image(),
        }
    )
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    whole = datasets.Dataset.from_list(rows, features=features)
    for number in range(2):
        part = whole.select(range(number * 30, number * 30 + 30))
        part.to_parquet(folder / "data" / f"train-0000{number}-of-00002.parquet")
    (folder / "README.md").write_text("# Shoes")
    (folder / "load.py").write_text("raise SystemExit('run')")
    return folder


def test_rows_of_the_hub_become_products(hub: HubServer, parquet: Path, tmp_path: Path, contents: Contents) -> None:
    commit = hub.add("owner/shoes", parquet, kind="dataset")
    report = import_data_set("owner/shoes", tmp_path / "set", DataSpec(), resolution=32)
    assert sum(split.num_images for split in report.splits) == 40
    records = {r.attributes["id"]: r for s in SPLITS for r in load_split(tmp_path / "set" / s, resolution=32)}
    assert records["100"].caption == (
        "A professional product photo of black casual shoes, fall collection, men, centered on white background"
    )
    assert (records["101"].attributes["colour"], records["101"].attributes["name"]) == ("White", "Shoe, 1")
    assert records["100"].attributes["year"] == "2011"
    source = json.loads((tmp_path / "set/manifest.json").read_text())["source"]
    assert (source["name"], source["revision"], source["products"]) == ("owner/shoes", commit, 60)
    assert not [request for request in hub.sent if request.path.endswith(".py")]
    hub.stop()
    import_data_set(f"hub:owner/shoes@{commit}", tmp_path / "again", DataSpec(), resolution=32)
    assert contents(tmp_path / "set") == contents(tmp_path / "again"), "a commit that is here needs no network"


def test_images_with_captions_on_the_hub(hub: HubServer, draw: Draw, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    for number in range(20):
        draw(number).save(folder / f"{number}.png")
    lines = [json.dumps({"file_name": f"{n}.png", "text": f"shoe {n}"}) for n in range(20)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    commit = hub.add("owner/folder", folder, kind="dataset", branches=("main", "v2"))
    report = import_data_set("hub:owner/folder@v2", tmp_path / "set", DataSpec(), resolution=32)
    assert sum(split.num_images for split in report.splits) == 20
    source = json.loads((tmp_path / "set/manifest.json").read_text())["source"]
    assert (source["name"], source["revision"]) == ("owner/folder", commit)


def _gone(hub: HubServer) -> None:
    """Nothing is served."""


def _other_files(hub: HubServer) -> None:
    folder = Path("other")
    folder.mkdir()
    (folder / "train.tar").write_bytes(b"tar")
    (folder / "shoes.py").write_text("")
    hub.add("owner/shoes", folder, kind="dataset")


def _no_parquet(hub: HubServer) -> None:
    folder = Path("broken")
    folder.mkdir()
    (folder / "train.parquet").write_bytes(b"PAR1 and nothing else")
    hub.add("owner/shoes", folder, kind="dataset")


def _no_images(hub: HubServer) -> None:
    import datasets

    Path("text").mkdir()
    datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}]).to_parquet("text/train.parquet")
    hub.add("owner/shoes", Path("text"), kind="dataset")


def _no_revision(hub: HubServer) -> None:
    _no_images(hub)
    hub.status("/api/datasets/owner/shoes*", 404, error="RevisionNotFound", times=9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_gone, "the Hub has no such data set for you"),
        (_other_files, "holds neither parquet files nor images; it holds shoes.py, train.tar"),
        (_no_parquet, "its parquet files can't be read"),
        (_no_images, "has no column of images; its columns are text"),
        (_no_revision, "has no such revision"),
    ],
)
def test_what_the_hub_refuses_is_one_clear_error(
    make: Callable[[HubServer], None], words: str, hub: HubServer, tmp_path: Path
) -> None:
    make(hub)
    with pytest.raises(DataError, match=words) as caught:
        import_data_set("hub:owner/shoes", tmp_path / "out" / "set", DataSpec(), resolution=32)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].where.startswith("hub:owner/shoes")
    assert not (tmp_path / "out").exists()


def test_without_a_network_waiting_may_help(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoes.model.hub.BACKOFF_SECONDS", 0.0)
    hub.stop()
    with pytest.raises(TransientError, match="can't be reached"):
        import_data_set("hub:owner/shoes", tmp_path / "set", DataSpec(), resolution=32)
    assert not (tmp_path / "set").exists()


def test_a_download_with_wrong_bytes_is_never_used(
    hub: HubServer, parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoes.model.hub.BACKOFF_SECONDS", 0.0)
    hub.add("owner/shoes", parquet, kind="dataset")
    hub.status("*.parquet", 503)
    hub.corrupt("*00001-of-00002.parquet")
    report = import_data_set("hub:owner/shoes", tmp_path / "set", DataSpec(), resolution=32)
    assert sum(split.num_images for split in report.splits) == 40
    verify(tmp_path / "set")
    shutil.rmtree(tmp_path / "data")
    hub.corrupt("*00001-of-00002.parquet", times=9)
    with pytest.raises(TransientError, match="came twice with other bytes"):
        import_data_set("hub:owner/shoes", tmp_path / "other", DataSpec(), resolution=32)


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """kagglehub, whose answer is set by the test; Kaggle itself is the outside world."""
    import kagglehub

    answers = SimpleNamespace(folder=None, error=None, asked=[])

    def download(handle: str) -> str:
        answers.asked.append(handle)
        if answers.error:
            raise answers.error
        return str(answers.folder)

    monkeypatch.setattr(kagglehub, "dataset_download", download)
    monkeypatch.setenv("KAGGLEHUB_CACHE", "as it was before")  # so that it is so again afterwards
    monkeypatch.delenv("KAGGLEHUB_CACHE")
    return answers


def test_a_data_set_of_kaggle_is_a_folder(kaggle: SimpleNamespace, make_catalogue: Make, tmp_path: Path) -> None:
    kaggle.folder = tmp_path / "cache" / "versions" / "7"
    kaggle.folder.mkdir(parents=True)
    shutil.move(make_catalogue(), kaggle.folder / "fashion-dataset")
    report = import_data_set("kaggle:paramaggarwal/shoes", tmp_path / "set", DataSpec(), resolution=32)
    assert kaggle.asked == ["paramaggarwal/shoes"]
    assert os.environ["KAGGLEHUB_CACHE"] == str(tmp_path / "data/cache/downloads/kaggle")
    assert sum(split.num_images for split in report.splits) == 40
    source = json.loads((tmp_path / "set/manifest.json").read_text())["source"]
    assert (source["name"], source["revision"]) == ("kaggle:paramaggarwal/shoes", "version 7")


def _http(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status}", response=response)


def test_what_kaggle_refuses_is_one_clear_error(kaggle: SimpleNamespace, tmp_path: Path) -> None:
    from kagglehub.exceptions import KaggleApiHTTPError, UnauthenticatedError

    denied = KaggleApiHTTPError("403 Client Error", response=_http(403).response)
    for error, words in (
        (denied, "KAGGLE_API_TOKEN"),
        (_http(401), "KAGGLE_API_TOKEN"),
        (UnauthenticatedError(), "KAGGLE_API_TOKEN"),
        (_http(404), "knows no such data set"),
    ):
        kaggle.error = error
        with pytest.raises(DataError, match=words) as caught:
            import_data_set("kaggle:a/b", tmp_path / "set", DataSpec(), resolution=32)
        assert len(caught.value.problems) == 1
    for error in (_http(503), _http(429), requests.ConnectionError("away"), requests.Timeout("late")):
        kaggle.error = error
        with pytest.raises(TransientError, match="does not answer"):
            import_data_set("kaggle:a/b", tmp_path / "set", DataSpec(), resolution=32)
    assert not (tmp_path / "set").exists()
