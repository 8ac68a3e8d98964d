"""A model's files: found or downloaded, and equal to what they should be before anything loads them.

huggingface_hub compares only the size of what it downloads, so every file's SHA-256 is compared here: with
the manifest that the project keeps (`KNOWN_HASHES`), with the manifest beside a shipped model, or with what
was recorded at the first use.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shoes.errors import ModelError, Problem, TransientError
from shoes.reports import ModelReport
from shoes.settings import Settings
from shoes.storage import MANIFEST, damage, fingerprint, pretty_json, sha256, write_text

log = logging.getLogger(__name__)

KNOWN_HASHES = {
    "451f4fe16113bff5a5d2269ed5ad43b0592e9a14": {
        "unet/diffusion_pytorch_model.fp16.safetensors": (
            "c83908253f9a64d08c25fc90874c9c8aef9a329ce1ca5fb909d73b0c83d1ea21"
        ),
        "text_encoder/model.fp16.safetensors": ("77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e"),
        "vae/diffusion_pytorch_model.fp16.safetensors": (
            "4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c"
        ),
    }
}
"""SHA-256 by commit and file of Stable Diffusion 1.5, as its repository announces them."""

_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class Wanted:
    """Which files of a repository a model consists of."""

    name: str
    revision: str | None
    patterns: tuple[str, ...]
    weights: tuple[str, ...]
    """Files that must be there for the model to load."""


def diffusion_files(name: str, revision: str | None, variant: str | None) -> Wanted:
    """The 13 files of a Stable Diffusion 1.x pipeline, without the safety checker and single-file weights."""
    dot = f".{variant}" if variant else ""
    weights = (
        f"unet/diffusion_pytorch_model{dot}.safetensors",
        f"vae/diffusion_pytorch_model{dot}.safetensors",
        f"text_encoder/model{dot}.safetensors",
    )
    configs = ("model_index.json", "scheduler/*.json", "tokenizer/*", "feature_extractor/*.json")
    parts = ("unet/config.json", "vae/config.json", "text_encoder/config.json")
    return Wanted(name, revision, (*configs, *parts, *weights), ("model_index.json", *parts, *weights))


def clip_files(name: str, revision: str | None) -> Wanted:
    """The files of a CLIP model with its tokenizer and image processor."""
    patterns = (
        "config.json",
        "model.safetensors",
        "*processor*.json",
        "tokenizer*",
        "vocab.json",
        "merges.txt",
    )
    return Wanted(name, revision, (*patterns, "special_tokens_map.json"), ("config.json", "model.safetensors"))


def fetch(wanted: Wanted, settings: Settings) -> ModelReport:
    """The model's files on this machine, verified; downloaded first when they are not here.

    Raises:
        ModelError: files are missing, damaged or pickled, with each one's name.
        TransientError: the Hub could not be reached.
    """
    started = time.monotonic()
    folder = settings.locate(wanted.name)
    if is_local(wanted, settings):
        if not folder.is_dir():
            fix = "correct the path, or name a model on the Hub such as owner/name"
            raise ModelError([Problem(str(folder), "there is no such folder", fix)])
    else:
        folder = settings.models / f"{wanted.name.replace('/', '--')}-{(wanted.revision or 'main')[:12]}"
        if not _recorded_at(wanted, folder, settings).is_file():
            _download(wanted, folder)
    _require(wanted, folder)
    return _verify(wanted, folder, settings, started)


def is_local(wanted: Wanted, settings: Settings) -> bool:
    """The name is a folder here, or can only be one."""
    is_path = wanted.name.startswith(("data/", "/", ".", "~")) or wanted.name.count("/") != 1
    return is_path or settings.locate(wanted.name).is_dir()


def _download(wanted: Wanted, folder: Path) -> None:
    """Download into `folder`; a broken download goes on where it stopped."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    log.info("downloading %s (%s) to %s", wanted.name, wanted.revision or "main", folder)
    try:
        snapshot_download(wanted.name, revision=wanted.revision, allow_patterns=list(wanted.patterns), local_dir=folder)
    except RepositoryNotFoundError as error:
        fix = "check the name; for a private or gated model set HF_TOKEN"
        raise ModelError([Problem(wanted.name, "the Hub has no such model for you", fix)]) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise TransientError(
            f"{wanted.name} could not be downloaded: {error}. It goes on where it stopped: run the same again."
        ) from error


def _require(wanted: Wanted, folder: Path) -> None:
    missing = [name for name in wanted.weights if not (folder / name).is_file()]
    pickled = [f for f in folder.rglob("*") if f.suffix in _PICKLES] if missing else []
    problems = [
        Problem(str(folder / name), "is missing", f"give a folder in diffusers' format with {name}") for name in missing
    ]
    problems += [
        Problem(str(file), "is a pickle, which can run code when it is loaded", "convert it to safetensors")
        for file in pickled
    ]
    if problems:
        raise ModelError(problems)


def _verify(wanted: Wanted, folder: Path, settings: Settings, started: float) -> ModelReport:
    against = f"{MANIFEST} beside the model"
    manifest = folder / MANIFEST
    if not manifest.is_file():
        manifest, against = _record(wanted, folder, settings)
    broken = damage(folder) if manifest.parent == folder else _differences(folder, manifest)
    if broken:
        fix = f"delete {folder} so that it is downloaded again, or restore the files"
        raise ModelError([Problem(wanted.name, what, fix) for what in broken])
    hashes = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    return ModelReport(
        name=wanted.name,
        path=folder,
        fingerprint=fingerprint(hashes),
        num_files=len(hashes),
        num_bytes=sum((folder / name).stat().st_size for name in hashes),
        verified_against=against,
        seconds=time.monotonic() - started,
    )


def _record(wanted: Wanted, folder: Path, settings: Settings) -> tuple[Path, str]:
    """Manifest of a model that came without one: made at its first use, kept in the data folder."""
    manifest = _recorded_at(wanted, folder, settings)
    if manifest.is_file():
        return manifest, "what was recorded at the first use"
    files = sorted({f for pattern in wanted.patterns for f in folder.glob(pattern) if f.is_file()})
    hashes = {file.relative_to(folder).as_posix(): sha256(file) for file in files}
    known = KNOWN_HASHES.get(wanted.revision or "", {})
    _refuse(wanted, {name for name, digest in hashes.items() if known.get(name, digest) != digest}, folder)
    write_text(manifest, pretty_json({"files": hashes, "model": wanted.name, "revision": wanted.revision}))
    log.info("%s had no manifest: its hashes are recorded in %s", wanted.name, manifest)
    return manifest, "the project's manifest" if known else "recorded now, at the first use"


def _recorded_at(wanted: Wanted, folder: Path, settings: Settings) -> Path:
    """The manifest of a model that came without one; it is there once a download was whole and recorded."""
    return settings.models / "manifests" / f"{fingerprint(str(folder), wanted.patterns)}.json"


def _refuse(wanted: Wanted, wrong: set[str], folder: Path) -> None:
    if wrong:
        fix = f"delete {folder} so that it is downloaded again"
        raise ModelError([Problem(f"{wanted.name}/{name}", "is not the published file", fix) for name in wrong])


def _differences(folder: Path, manifest: Path) -> list[str]:
    expected: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    problem: Callable[[str], str | None] = lambda name: (  # noqa: E731
        f"{folder / name} is missing"
        if not (folder / name).is_file()
        else None
        if sha256(folder / name) == expected[name]
        else f"{folder / name} has other bytes than it had"
    )
    return [text for text in map(problem, expected) if text]
