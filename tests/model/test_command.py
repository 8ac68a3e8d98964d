"""`shoes model` as people run it, with the real client and a Hub on this machine; in a process where it goes on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from tests.hub.server import HubServer

UNET = "unet/diffusion_pytorch_model.safetensors"
SECRET = "hf_secretsecretsecretsecret"


def shoes(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, check=False)


def here(*words: str) -> Result:
    """The same without a process of its own."""
    return CliRunner().invoke(main, ["model", *words])


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from flows.cli import main; main()", "model", *words]


@pytest.fixture
def recipe(own_world: Path, hub: HubServer, repository: Path, clip_repository: Path) -> str:
    """A recipe whose models are on the Hub."""
    commit = hub.add("owner/name", repository)
    hub.add("owner/clip", clip_repository)
    file = own_world / "mine.toml"
    file.write_text(
        'extends = "demo"\nname = "mine"\n'
        f'[model]\npretrained_model_name_or_path = "owner/name"\nrevision = "{commit}"\n'
        '[eval]\nclip_model_name_or_path = "owner/clip"\n'
    )
    return str(file)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_fetch_verify_damage_and_repair(hub: HubServer, recipe: str, own_world: Path) -> None:
    hub.cut(f"*/{UNET}", after=100_000)
    hub.status("/api/models/owner/clip*", 503)
    first = shoes("fetch", "--recipe", recipe, "--json")
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    folder = Path(found["base"]["path"])
    assert folder.is_relative_to(own_world / "data")
    assert found["clip"]["notes"], "no revision: the commit that main was is said"
    assert hub.ranges(UNET) == ["bytes=100000-"]
    assert "downloading owner/name" in first.stderr
    assert "answered 503" in first.stderr

    flip(folder / UNET)
    bad = shoes("verify", "--recipe", recipe)
    assert bad.returncode == 1
    assert f"{folder / UNET}: has other bytes than it should have" in bad.stdout
    assert "shoes model fetch" in bad.stdout
    assert "Traceback" not in bad.stderr

    downloads = len(hub.downloads())
    again = shoes("fetch", "--recipe", recipe)
    assert again.returncode == 0, again.stderr
    assert f"{folder / UNET} is damaged" in again.stderr
    assert len(hub.downloads()) == downloads + 1

    hub.stop()
    offline = shoes("fetch", "--recipe", recipe)
    assert offline.returncode == 0, offline.stderr
    assert "the record of the first download" in offline.stdout
    whole = shoes("verify", "--recipe", recipe, "--json")
    assert whole.returncode == 0
    assert {file["status"] for file in json.loads(whole.stdout)["base"]["files"]} == {"OK"}


def test_a_download_that_was_stopped_goes_on(hub: HubServer, recipe: str, own_world: Path) -> None:
    hub.stall(f"*/{UNET}", after=100_000)
    with subprocess.Popen(command("fetch", "--recipe", recipe), stderr=subprocess.PIPE, text=True) as process:
        while not has_bytes(own_world, 100_000):
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert not list((own_world / "data/models").rglob(Path(UNET).name))
    assert shoes("verify", "--recipe", recipe).returncode == 1
    second = shoes("fetch", "--recipe", recipe)
    assert second.returncode == 0, second.stderr
    assert hub.ranges(UNET) == ["bytes=100000-"]


def has_bytes(world: Path, count: int) -> bool:
    return any(f.stat().st_size == count for f in (world / "data").rglob("*/.partial/unet--diff*"))


def test_nothing_is_here_yet(recipe: str) -> None:
    result = here("verify", "--recipe", recipe)
    assert result.exit_code == 1
    assert result.stdout.count("is not here yet: `shoes model fetch` downloads it") == 2


@pytest.mark.parametrize(
    ("match", "code", "error", "expected"),
    [
        ("/api/models/owner/name*", 404, "RepoNotFound", "no such model for you"),
        ("/api/models/owner/name*", 404, "RevisionNotFound", "no such revision"),
        ("*/unet/config.json", 401, "GatedRepo", "set HF_TOKEN"),
    ],
)
def test_a_refusal_is_one_clear_error(
    hub: HubServer, recipe: str, match: str, code: int, error: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.status(match, code, error=error, times=9)
    result = here("fetch", "--recipe", recipe, "--json")
    assert result.exit_code == 2
    assert expected in result.stderr
    assert json.loads(result.stdout)["problems"][0]["fix"]
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stdout + result.stderr
    assert any(request.has_token for request in hub.requests)


def test_wrong_bytes_are_one_clear_error(hub: HubServer, recipe: str, own_world: Path) -> None:
    hub.corrupt(f"*/{UNET}", times=9)
    result = here("fetch", "--recipe", recipe)
    assert result.exit_code == 2
    assert f"owner/name/{UNET}: arrives with wrong bytes" in result.stderr
    assert not list((own_world / "data/models").rglob(Path(UNET).name))
    assert not list((own_world / "data/models").rglob(".partial/unet--diff*"))


def test_the_demo_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    result = here("fetch")
    assert result.exit_code == 0, result.stderr
    assert "manifest.json beside the model" in result.stdout
