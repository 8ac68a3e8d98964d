"""What `data.source` may name: a folder here, a data set on the Hub, or one on Kaggle. Light: nothing is read."""

import re
from dataclasses import dataclass
from pathlib import Path

from shoes.errors import DataError, Problem

UNDERSTOOD = (
    "name the folder of the downloaded catalogue (styles.csv and images/); a folder of images with "
    "captions.json, metadata.jsonl, metadata.csv or a .txt beside each; a data set on the Hub (owner/name, "
    "hub:owner/name@revision); or one on Kaggle (kaggle:owner/name)"
)
"""The sources that there are, as the fix of a problem."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,95}[A-Za-z0-9_-])?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True)
class HubAddress:
    """A data set on the Hub."""

    repo_id: str
    """owner/name."""
    revision: str | None = None
    """Branch, tag or commit; nothing means the newest."""


@dataclass(frozen=True)
class KaggleAddress:
    """A data set on Kaggle."""

    handle: str
    """owner/name, or owner/name/versions/N."""


Address = Path | HubAddress | KaggleAddress


def parse_address(source: str | Path) -> Address:
    """What a source is, by its form alone.

    `owner/name` is a folder where there is one, or where a folder `owner` is; else a data set on the Hub.

    Raises:
        DataError: hub: or kaggle: with something behind it that is no id.
    """
    if isinstance(source, Path):
        return source.expanduser().absolute()
    kind, has_kind, rest = source.strip().partition(":")
    if has_kind and kind.casefold() == "hub":
        return _hub(rest, source)
    if has_kind and kind.casefold() == "kaggle":
        return _kaggle(rest, source)
    path = Path(source.strip()).expanduser()
    if path.exists() or (path.parent.is_dir() and path.parent != Path()) or not _is_id(source.strip()):
        return path.absolute()
    return _hub(source.strip(), source)


def _is_id(text: str) -> bool:
    repo_id = text.partition("@")[0]
    return repo_id.count("/") == 1 and all(_NAME.fullmatch(part) for part in repo_id.split("/"))


def _hub(text: str, source: str) -> HubAddress:
    repo_id, has_revision, revision = text.partition("@")
    if not _is_id(repo_id) or (has_revision and not _REVISION.fullmatch(revision)):
        fix = "write it like hub:owner/name or hub:owner/name@revision"
        raise DataError([Problem(f"data.source {source!r}", "is no id of a data set on the Hub", fix)])
    return HubAddress(repo_id, revision or None)


def _kaggle(text: str, source: str) -> KaggleAddress:
    repo_id, has_version, version = text.replace("/versions/", "@").partition("@")
    if not _is_id(repo_id) or (has_version and not version.isdecimal()):
        fix = "write it like kaggle:owner/name or kaggle:owner/name@3 (3 is the version)"
        raise DataError([Problem(f"data.source {source!r}", "is no id of a data set on Kaggle", fix)])
    return KaggleAddress(f"{repo_id}/versions/{version}" if version else repo_id)
