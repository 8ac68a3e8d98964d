"""Fetch a data set from the Hub: its parquet files, or its images with captions.

Only data is taken: no script of the repository is downloaded or run, and nothing is unpickled. Every file is
compared with the hash that the Hub announces for the commit.
"""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from shoes.dataset.addresses import UNDERSTOOD, HubAddress
from shoes.dataset.layouts import TABLES
from shoes.dataset.styles import STYLES
from shoes.errors import DataError, ModelError, Problem, TransientError
from shoes.litter import is_visible
from shoes.model.hub import Patience, RemoteFile, patiently
from shoes.storage import pretty_json, write_text

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, RepoSibling

PARQUET = ".parquet"
_DOWNLOADS_AT_ONCE = 8
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Download:
    """The files of one commit, here and whole."""

    folder: Path
    commit: str
    tables: tuple[Path, ...]
    """Parquet files; none when the data set is a folder of images."""


def download(address: HubAddress, downloads: Path) -> Download:
    """The files of a data set on the Hub, fetched when they are not here yet.

    A commit that was fetched before needs no network.

    Raises:
        DataError: there is no such data set or revision, it is not for us, or it holds nothing that is
            understood.
        TransientError: the Hub does not answer.
    """
    home = downloads / "hub" / address.repo_id.replace("/", "--")
    if address.revision and _COMMIT.fullmatch(address.revision) and (home / f"{address.revision}.json").is_file():
        return _open(home, address.revision)
    info = _ask(address)
    commit = str(info.sha)
    if not (home / f"{commit}.json").is_file():
        _fetch(address, home / commit, commit, _wanted(address, info.siblings or []))
        write_text(home / f"{commit}.json", pretty_json({"repo_id": address.repo_id, "commit": commit}))
    return _open(home, commit)


def _open(home: Path, commit: str) -> Download:
    files = sorted(p for p in (home / commit).rglob(f"*{PARQUET}") if ".cache" not in p.parts and is_visible(p.name))
    return Download(home / commit, commit, tuple(files))


def _where(address: HubAddress) -> str:
    return f"hub:{address.repo_id}" + (f"@{address.revision}" if address.revision else "")


def _ask(address: HubAddress) -> "DatasetInfo":
    from huggingface_hub import HfApi

    where = _where(address)
    try:
        info = patiently(
            Patience(where),
            lambda: HfApi().dataset_info(address.repo_id, revision=address.revision, files_metadata=True),
        )
    except ModelError as error:
        raise _refusal(error) from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        hint = "a log-in page of the network, or a wrong HF_ENDPOINT?"
        raise TransientError(f"{where}: what answers is not the Hub ({hint})") from error
    return info


def _refusal(error: ModelError) -> DataError:
    """The same refusals as for models, in the words of data sets."""
    return DataError(
        [Problem(p.where, *(text.replace("model", "data set") for text in (p.what, p.fix))) for p in error.problems]
    )


def _wanted(address: HubAddress, siblings: "list[RepoSibling]") -> dict[str, RemoteFile]:
    """The repository's parquet files; where it has none, its images, captions and styles.csv."""
    from shoes.dataset.photos import SUFFIXES

    names = {sibling.rfilename: sibling for sibling in siblings if not _is_hidden(sibling.rfilename)}
    chosen = [name for name in names if name.endswith(PARQUET)]
    if not chosen:
        suffixes = SUFFIXES | {".txt"}
        others = (*TABLES, STYLES)
        chosen = [
            name
            for name in names
            if PurePosixPath(name).suffix.lower() in suffixes or PurePosixPath(name).name in others
        ]
    if not any(PurePosixPath(name).suffix.lower() in SUFFIXES | {PARQUET} for name in chosen):
        found = ", ".join(sorted(names)[:8]) or "nothing"
        what = f"holds neither parquet files nor images; it holds {found}"
        raise DataError([Problem(_where(address), what, UNDERSTOOD)])
    return {name: _remote_file(names[name]) for name in chosen}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _remote_file(sibling: "RepoSibling") -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(
        path=sibling.rfilename,
        size=int((lfs.size if lfs else sibling.size) or 0),
        sha256=lfs.sha256 if lfs else None,
        git_sha1=None if lfs else sibling.blob_id,
    )


def _fetch(address: HubAddress, folder: Path, commit: str, wanted: dict[str, RemoteFile]) -> None:
    """Download what is missing, and what came with other bytes than announced once more."""
    _require_space(address, folder, wanted)
    for _ in range(2):
        _download_all(address, folder, commit, [n for n in wanted if not wanted[n].is_equal(folder / n)])
        wrong = [name for name, file in wanted.items() if not file.is_equal(folder / name)]
        for name in wrong:
            (folder / name).unlink(missing_ok=True)
        if not wrong:
            return
    raise TransientError(
        f"{_where(address)}: {wrong[0]} came twice with other bytes than the Hub announces. Try again, and if it "
        "stays so, look at the proxy of this network."
    )


def _require_space(address: HubAddress, folder: Path, wanted: dict[str, RemoteFile]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(file.size for name, file in wanted.items() if not (folder / name).is_file())
    # `datasets` makes its own copy of parquet files, to read single rows
    needed *= 2 if any(name.endswith(PARQUET) for name in wanted) else 1
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at {folder}"
        raise DataError([Problem(_where(address), what, "free some space, or move it all: SHOES_DATA_DIR")])


def _download_all(address: HubAddress, folder: Path, commit: str, names: list[str]) -> None:
    pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE)
    try:
        for _ in pool.map(lambda name: _download_one(address, folder, commit, name), names):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _download_one(address: HubAddress, folder: Path, commit: str, name: str) -> None:
    from huggingface_hub import hf_hub_download

    def ask() -> str:
        return hf_hub_download(address.repo_id, name, repo_type="dataset", revision=commit, local_dir=folder)

    try:
        patiently(Patience(_where(address)), ask)
    except ModelError as error:
        raise _refusal(error) from error
    except OSError as error:
        if error.errno is not None:  # the disk's trouble, not the network's
            raise
        raise TransientError(
            f"{_where(address)}: {name} could not be fetched. What has arrived is kept: the same command "
            "goes on where it stopped."
        ) from error
