"""Models of the Hub, with the real client and a Hub on this machine: no fault ends in a wrong file."""

import logging
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from shoes.errors import ModelError, NotReady, TransientError
from shoes.model import known
from shoes.model.files import check, clip_files, diffusion_files, fetch, repair
from shoes.reports import ModelReport
from shoes.settings import load_settings
from shoes.storage import hash_files, sha256
from tests.hub.server import HubServer

NAME = "owner/name"
UNET = "unet/diffusion_pytorch_model.safetensors"
CONFIG = "unet/config.json"
OURS = "shoes"


def get(revision: str | None = None, variant: str | None = None) -> ModelReport:
    return fetch(diffusion_files(NAME, revision, variant), load_settings())


def same(report: ModelReport, repository: Path) -> bool:
    """Every file that was fetched is, byte for byte, the repository's, and nothing else is there."""
    fetched = hash_files(report.path)
    return all(sha256(repository / name) == digest for name, digest in fetched.items())


@pytest.fixture
def commit(hub: HubServer, repository: Path) -> str:
    return hub.add(NAME, repository)


def test_exactly_the_files_that_are_needed_and_then_never_again(hub: HubServer, repository: Path, commit: str) -> None:
    report = get(commit, "fp16")
    assert sorted(hash_files(report.path)) == sorted(
        [
            "feature_extractor/preprocessor_config.json",
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "tokenizer/tokenizer.json",
            "tokenizer/tokenizer_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ]
    )
    assert same(report, repository)
    assert report.commit == commit
    assert report.verified_against == "the Hub's SHA-256 (3 files) and the Hub's git hash (8 files)"
    asked = len(hub.requests)
    again = get(commit, "fp16")
    assert len(hub.requests) == asked, "the second start asks nothing"
    assert again.fingerprint == report.fingerprint
    hub.stop()
    assert get(commit, "fp16").verified_against.startswith("the record of the first download")


FAULTS: dict[str, Callable[[HubServer], None]] = {
    "cut in the middle": lambda hub: hub.cut(f"*/{UNET}", after=100_000),
    "cut three times": lambda hub: hub.cut(f"*/{UNET}", after=100_000, times=3),
    "truncated": lambda hub: hub.truncate(f"*/{UNET}", keep=5000),
    "wrong bytes of the same size": lambda hub: hub.corrupt(f"*/{UNET}"),
    "wrong bytes in a small file": lambda hub: hub.corrupt(f"*/{CONFIG}"),
    "503 for the metadata": lambda hub: hub.status("/api/*", 503, times=2),
    "503 for a file": lambda hub: hub.status(f"*/{UNET}", 503, times=2),
    "429 for a file": lambda hub: hub.status(f"*/{CONFIG}", 429),
    "hung up": lambda hub: hub.hang_up(f"*/{UNET}", times=2),
    "no answer in time": lambda hub: hub.slow(f"*/{UNET}", seconds=1.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_ends_in_the_right_files(
    hub: HubServer, repository: Path, commit: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    FAULTS[fault](hub)
    report = get(commit)
    assert same(report, repository)
    assert UNET in hash_files(report.path)


def test_a_cut_download_goes_on_where_it_broke(hub: HubServer, repository: Path, commit: str) -> None:
    hub.cut(f"*/{UNET}", after=100_000)
    assert same(get(commit), repository)
    assert hub.ranges(UNET) == ["bytes=100000-"]


def test_from_who_knows_no_ranges_it_comes_from_the_beginning(hub: HubServer, repository: Path, commit: str) -> None:
    hub.cut(f"*/{UNET}", after=100_000)
    hub.send_whole(f"*/{UNET}")
    assert same(get(commit), repository)
    assert len(hub.downloads(UNET)) == 2, "cut, then whole: nothing is put behind what is there"


def test_another_process_goes_on_as_well(hub: HubServer, repository: Path, commit: str, own_world: Path) -> None:
    hub.cut(f"*/{UNET}", after=100_000)
    hub.hang_up(f"*/{UNET}", times=4)
    with pytest.raises(TransientError, match="goes on where it stopped"):
        get(commit)
    assert not list((own_world / "data").rglob(Path(UNET).name)), "half a file has not its name"
    report = get(commit)
    assert hub.ranges(UNET)[-1] == "bytes=100000-"
    assert same(report, repository)
    assert not list(report.path.rglob("*partial*"))


@pytest.mark.parametrize("path", [UNET, CONFIG])
def test_wrong_bytes_again_and_again_are_never_accepted(
    hub: HubServer, commit: str, path: str, own_world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger(OURS).propagate = True
    hub.corrupt(f"*/{path}", times=99)
    with pytest.raises(ModelError, match=f"{path}: arrives with wrong bytes") as caught:
        get(commit)
    assert len(caught.value.problems) == 1
    assert len(hub.downloads(path)) == 2
    assert "it is downloaded again" in caplog.text
    folder = next((own_world / "data/models").glob("owner--name-*"))
    assert not (folder / path).exists()
    assert not check(diffusion_files(NAME, commit, None), load_settings()).files, "and none of it counts"


REFUSALS = {
    "no such model": ("/api/*", 404, "RepoNotFound", "no such model for you"),
    "no such revision": ("/api/*", 404, "RevisionNotFound", "no such revision"),
    "a private model": ("/api/*", 401, "RepoNotFound", "HF_TOKEN"),
    "a gated model": (f"*/{CONFIG}", 401, "GatedRepo", "accept it on the model's page"),
    "a gated model with a token": (f"*/{CONFIG}", 403, "GatedRepo", "accept it on the model's page"),
    "a bad token": (f"*/{UNET}", 401, "Invalid credentials in Authorization header", "HF_TOKEN"),
    "forbidden": (f"*/{UNET}", 403, None, "HF_TOKEN"),
    "a file that is gone": (f"*/{UNET}", 404, "EntryNotFound", UNET),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_not_tried_again(
    hub: HubServer, commit: str, case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger(OURS).propagate = True
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    match, code, error, expected = REFUSALS[case]
    hub.status(match, code, error=error, times=99)
    with pytest.raises(ModelError, match=expected) as caught:
        get(commit)
    assert len([request for request in hub.requests if fnmatch(request.path, match)]) == 1
    assert "hf_secret" not in str(caught.value) + caplog.text
    assert caught.value.__suppress_context__, "the client's text, with its addresses, stays out of tracebacks"


def test_a_token_opens_a_gated_model(hub: HubServer, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, repository, token="hf_right")
    with pytest.raises(ModelError, match="gated"):
        get()
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert same(get(), repository)


def test_no_network_and_no_model_is_one_clear_sentence(hub: HubServer, commit: str) -> None:
    hub.stop()
    with pytest.raises(TransientError, match=r"owner/name could not be downloaded: 127\.0\.0\.1:\d+ can't be reached"):
        get(commit)


def test_offline_by_wish_is_said_so(hub: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="unset HF_HUB_OFFLINE"):
        get(commit)


def test_a_full_disk_is_known_before_any_byte(hub: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr("shoes.model.download.shutil.disk_usage", lambda path: usage)
    with pytest.raises(NotReady, match="SHOES_DATA_DIR"):
        get(commit)
    assert hub.downloads() == []


def test_a_branch_is_the_commit_that_it_was(hub: HubServer, repository: Path, commit: str) -> None:
    first = get("main")
    assert first.commit == commit
    assert commit in first.notes[0]
    (repository / CONFIG).write_text((repository / CONFIG).read_text() + " ")
    assert hub.add(NAME, repository) != commit
    assert get("main").commit == commit
    assert get(None).commit != commit, "asked for anew, it is what it is now"


def test_the_projects_own_hashes_win(hub: HubServer, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = sha256(repository / UNET)
    commit = hub.add(NAME, repository)
    monkeypatch.setitem(known.KNOWN_HASHES, commit, {UNET: right})
    assert "the project's manifest (1 file)" in get(commit).verified_against
    other = "f" * 40
    hub.add(NAME, repository, commit=other)
    monkeypatch.setitem(known.KNOWN_HASHES, other, {UNET: "0" * 64})
    before = len(hub.downloads())
    with pytest.raises(ModelError, match="another SHA-256 than the published"):
        get(other)
    assert len(hub.downloads()) == before


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("path", [UNET, CONFIG])
def test_one_flipped_byte_is_named_and_only_that_file_is_repaired(
    hub: HubServer, repository: Path, commit: str, path: str
) -> None:
    report = get(commit)
    flip(report.path / path)
    before = len(hub.downloads())
    with pytest.raises(ModelError, match=path) as caught:
        get(commit)
    assert len(caught.value.problems) == 1
    assert "shoes model fetch" in str(caught.value)
    assert len(hub.downloads()) == before, "a damaged model is named, not replaced behind one's back"
    found = check(diffusion_files(NAME, commit, None), load_settings())
    assert [file.path for file in found.files if file.status == "damaged"] == [path]
    assert same(repair(diffusion_files(NAME, commit, None), load_settings()), repository)
    assert len(hub.downloads()) == before + 1


def test_a_file_that_was_deleted_is_downloaded_again(hub: HubServer, repository: Path, commit: str) -> None:
    report = get(commit)
    (report.path / UNET).unlink()
    assert same(get(commit), repository)
    assert len(hub.downloads(UNET)) == 2


def test_clip_likewise(hub: HubServer, clip_repository: Path) -> None:
    (clip_repository / "pytorch_model.bin").write_bytes(b"a pickle")
    hub.add("owner/clip", clip_repository)
    report = fetch(clip_files("owner/clip", None), load_settings())
    assert same(report, clip_repository)
    assert not list(report.path.glob("*.bin"))
