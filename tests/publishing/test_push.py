"""A folder goes to the Hub and comes back the same; refusals are told in words, and hold no token."""

from pathlib import Path

import pytest
from huggingface_hub import close_session, snapshot_download

from shoes.errors import ConfigurationError, TransientError
from shoes.publishing.place import visible_files
from shoes.publishing.push import push, push_problems, require_account
from tests.hub.server import HubServer
from tests.hub.uploads import Account

TOKEN = "hf_a_secret_of_the_test"
CARD = "---\nlicense: other\npipeline_tag: text-to-image\n---\n\n# A card\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "export"
    for name in ("peft", "images"):
        (place / name).mkdir(parents=True)
    (place / "README.md").write_text(CARD)
    (place / "peft/adapter_config.json").write_text("{}")
    (place / "peft/adapter_model.safetensors").write_bytes(bytes(range(256)) * 40)
    (place / "images/sample-1.png").write_bytes(b"one picture")
    (place / "images/sample-2.png").write_bytes(b"another")
    (place / ".DS_Store").write_bytes(b"what a system left")
    return place


@pytest.fixture
def owner(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The Hub, and a token that it knows."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.uploads.accounts.append(Account(TOKEN))
    return hub


def send(folder: Path, name: str = "owner/shoes", *, is_private: bool = True):
    return push(folder, name, is_private=is_private, message="LoRA 01234567")


def test_what_is_pushed_comes_back_the_same(owner: HubServer, folder: Path, tmp_path: Path) -> None:
    report = send(folder)
    assert report.url == f"{owner.url}/owner/shoes"
    assert (report.is_changed, report.is_private, report.notes) == (True, True, ())
    assert owner.uploads.created[0]["visibility"] == "private"
    assert [commit["summary"] for commit in owner.uploads.commits] == ["LoRA 01234567"]
    back = Path(snapshot_download("owner/shoes", local_dir=tmp_path / "back", revision=report.commit))
    assert visible_files(back) == visible_files(folder)
    for path in visible_files(folder):
        assert (back / path).read_bytes() == (folder / path).read_bytes()


def test_a_second_push_makes_no_commit(owner: HubServer, folder: Path) -> None:
    first, second = send(folder), send(folder)
    assert (second.is_changed, second.commit) == (False, first.commit)
    assert len(owner.uploads.commits) == 1


def test_what_an_earlier_export_left_is_removed_and_nothing_else(owner: HubServer, folder: Path) -> None:
    send(folder)
    (folder / "images/sample-2.png").unlink()
    (folder / "peft/adapter_config.json").write_text('{"r": 8}')
    assert send(folder).is_changed
    found = owner.find("model", "owner/shoes")
    assert sorted(found.files) == [".gitattributes", *visible_files(folder)]
    assert found.files["peft/adapter_config.json"].size == 8


def test_public_is_what_was_asked_for_and_what_is_there_keeps_its_own(owner: HubServer, folder: Path) -> None:
    assert not send(folder, is_private=False).is_private
    report = send(folder, is_private=True)
    assert not report.is_private
    assert "is public" in report.notes[0]


def test_an_organisation_of_the_account_may_be_pushed_to(owner: HubServer, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not let this token write there"):
        send(folder, "team/shoes")
    owner.uploads.accounts[0].orgs = ("team",)
    assert send(folder, "team/shoes").is_changed


def test_a_bad_token_is_told_by_its_variable_and_never_shown(owner: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert require_account("owner/shoes") == "owner"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ConfigurationError, match=r"HF_TOKEN: .* does not know this token") as caught:
        require_account("owner/shoes")
    assert "hf_wrong" not in str(caught.value)
    owner.uploads.accounts.append(Account("hf_reader", role="read"))
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(ConfigurationError, match="HF_TOKEN: may only read"):
        require_account("owner/shoes")


def test_a_hub_that_is_away_is_a_reason_to_try_again(owner: HubServer, folder: Path) -> None:
    owner.status("/api/models/owner/shoes/commit/*", 503)
    with pytest.raises(TransientError, match=r"answered 503\. The export in .* is whole: the same command tries again"):
        send(folder)
    assert send(folder).is_changed, "it does"
    owner.stop()
    close_session()  # a connection that is open would still be served
    with pytest.raises(TransientError, match="can't be reached"):
        require_account("owner/shoes")
    with pytest.raises(TransientError, match="the same command tries again"):
        send(folder)


def test_an_upload_that_is_refused_shows_no_address(owner: HubServer, folder: Path) -> None:
    owner.status("/lfs/*", 403, times=99)
    with pytest.raises(ConfigurationError, match="does not let this token write there") as caught:
        send(folder)
    assert "/lfs/" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_card_that_the_hub_does_not_take(owner: HubServer, folder: Path) -> None:
    (folder / "README.md").write_text("no front matter")
    with pytest.raises(ConfigurationError, match="empty or missing yaml metadata"):
        send(folder)
    assert owner.uploads.commits == []


@pytest.mark.parametrize(
    "name", ["shoes", "a/b/c", "owner/", "/shoes", "owner/sh oes", "owner/a--b", "owner/x.git", ""]
)
def test_names_that_are_none(owner: HubServer, name: str) -> None:
    assert [problem.where for problem in push_problems(name)] == [f"--push {name}"]
    assert push_problems("owner/name_1.5-x") == []


def test_everything_is_told_at_once(owner: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert [problem.where for problem in push_problems("?")] == ["--push ?", "HF_HUB_OFFLINE", "HF_TOKEN"]


def test_a_server_that_is_not_the_hub(owner: HubServer) -> None:
    owner.status("/api/whoami-v2", 200)
    with pytest.raises(TransientError, match=r"is not the Hub .* Nothing was exported yet"):
        require_account("owner/shoes")
