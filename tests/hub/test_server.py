"""The Hub of the tests answers the real client as the real one does."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError

from tests.hub.server import HubServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    (place / "unet").mkdir(parents=True)
    (place / "config.json").write_text("{}")
    (place / "unet/model.safetensors").write_bytes(bytes(range(256)) * 20)
    return place


def test_a_snapshot_of_a_model_and_of_a_data_set(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    commit = hub.add("owner/name", folder)
    hub.add("owner/photos", folder, kind="dataset")
    for name, kind in (("owner/name", "model"), ("owner/photos", "dataset")):
        place = Path(snapshot_download(name, repo_type=kind, local_dir=tmp_path / kind))
        assert (place / "unet/model.safetensors").read_bytes() == (folder / "unet/model.safetensors").read_bytes()
        assert (place / "config.json").read_text() == "{}"
    assert HfApi().model_info("owner/name").sha == commit


def test_sizes_and_hashes_are_announced(hub: HubServer, folder: Path) -> None:
    hub.add("owner/name", folder)
    found = {s.rfilename: s for s in HfApi().model_info("owner/name", files_metadata=True).siblings}
    assert (
        found["unet/model.safetensors"].lfs.sha256
        == hub.find("model", "owner/name").files["unet/model.safetensors"].sha256
    )
    assert found["config.json"].size == 2
    assert found["config.json"].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"
    (info,) = HfApi().get_paths_info("owner/name", ["config.json"])
    assert info.blob_id == found["config.json"].blob_id


def test_errors_are_the_hubs_own(hub: HubServer, folder: Path) -> None:
    hub.add("owner/name", folder)
    hub.add("owner/gated", folder, token="hf_right")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info("owner/nothing")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("owner/name", "nothing.json")
    with pytest.raises(GatedRepoError):
        hf_hub_download("owner/gated", "config.json")
    assert hf_hub_download("owner/gated", "config.json", token="hf_right")
    hub.status("/api/models/owner/name*", 503)
    with pytest.raises(HfHubHTTPError, match="503"):
        HfApi().model_info("owner/name")
    assert HfApi().model_info("owner/name")


def test_a_cut_download_goes_on_where_it_broke(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)  # what is not a whole one is lost
    hub.add("owner/name", folder)
    hub.cut("*/model.safetensors", after=1000)
    place = hf_hub_download("owner/name", "unet/model.safetensors")
    assert Path(place).stat().st_size == 5120
    assert hub.ranges("model.safetensors") == ["bytes=1000-"]


def test_wrong_bytes_of_the_right_size_and_a_truncated_file(hub: HubServer, folder: Path) -> None:
    hub.add("owner/name", folder)
    hub.corrupt("*/model.safetensors")
    place = hf_hub_download("owner/name", "unet/model.safetensors")
    assert Path(place).read_bytes() != (folder / "unet/model.safetensors").read_bytes(), "the client sees sizes only"
    hub.truncate("*/config.json", keep=1)
    with pytest.raises(OSError, match="Consistency check"):
        hf_hub_download("owner/name", "config.json")
