"""What the Hub says: which files a commit of a model has, their sizes and hashes, and what its refusals mean.

The endpoint and the token are the field's own settings: HF_ENDPOINT and HF_TOKEN. Error texts are written
here and hold no address with a query: what the content network redirects to is signed, and so a secret.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from shoes.errors import ModelError, Problem, TransientError
from shoes.progress import duration
from shoes.storage import sha256

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

log = logging.getLogger(__name__)
ATTEMPTS = 5
"""Tries in a row without a new byte, before it is said that the Hub is away."""
BACKOFF_SECONDS = 2.0
"""First wait between tries; each next one is twice as long."""
LONGEST_WAIT_SECONDS = 60.0
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a commit, as the Hub announces it."""

    path: str
    size: int
    sha256: str | None
    """Announced for what is stored in LFS: the weights."""
    git_sha1: str | None
    """Git's own hash of the others."""

    @property
    def identity(self) -> str:
        """Hash that names the content."""
        return self.sha256 or self.git_sha1 or f"{self.size} bytes"

    @property
    def source(self) -> str:
        """What its bytes are compared with, for people."""
        return "the Hub's SHA-256" if self.sha256 else "the Hub's git hash" if self.git_sha1 else "its size"

    def is_equal(self, file: Path) -> bool:
        """A file here has the announced size and hash."""
        if not file.is_file() or file.stat().st_size != self.size:
            return False
        if self.sha256:
            return sha256(file) == self.sha256
        return self.git_sha1 is None or _git_sha1(file) == self.git_sha1


@dataclass(frozen=True)
class Announcement:
    """The files of one commit of a model."""

    name: str
    commit: str
    files: dict[str, RemoteFile]


def announce(name: str, revision: str | None) -> Announcement:
    """Ask the Hub for a model's commit and files.

    Raises:
        ModelError: there is no such model or revision, or it is not for us.
        TransientError: the Hub could not be reached.
    """
    from huggingface_hub import HfApi, constants

    def ask() -> Announcement:
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=timeout)
        if not info.sha or info.siblings is None:
            raise ValueError("no commit")
        return Announcement(name, info.sha, {s.rfilename: _remote_file(s) for s in info.siblings})

    try:
        return patiently(Patience(name), ask)
    except (JSONDecodeError, KeyError, TypeError) as error:
        hint = "a log-in page of the network, or a wrong HF_ENDPOINT?"
        raise TransientError(f"{name}: what answers at {_host()} is not the Hub ({hint})") from error
    except ValueError as error:
        where = f"{name}@{revision}" if revision else name
        fix = "give an id such as owner/name and a commit, tag or branch of it"
        raise ModelError([Problem(where, f"can't be asked for: {error}", fix)]) from error


def _remote_file(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(
        path=sibling.rfilename,
        size=int(lfs.size if lfs else sibling.size),
        sha256=lfs.sha256 if lfs else None,
        git_sha1=None if lfs else sibling.blob_id,
    )


class Patience:
    """How long trouble that may pass is borne: waits double, and start anew when something was achieved."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._failures = 0

    def renew(self) -> None:
        """Something was achieved."""
        self._failures = 0

    def bear(self, trouble: "Trouble") -> None:
        """Wait for the next try.

        Raises:
            TransientError: it has been tried often enough.
        """
        self._failures += 1
        if self._failures >= ATTEMPTS:
            raise TransientError(
                f"{self.what} could not be downloaded: {trouble.text} ({ATTEMPTS} tries). "
                "What has arrived is kept: the same command goes on where it stopped."
            )
        wait = min(max(BACKOFF_SECONDS * 2 ** (self._failures - 1), trouble.wait_seconds), LONGEST_WAIT_SECONDS)
        log.info("%s: %s; the next try is in %s", self.what, trouble.text, duration(wait))
        time.sleep(wait)


@dataclass(frozen=True)
class Trouble:
    """Something that waiting may mend."""

    text: str
    wait_seconds: float = 0.0
    """What the Hub asked us to wait."""


def patiently(patience: Patience, ask: Callable[[], Answer]) -> Answer:
    """The answer, after as many tries as it takes.

    Raises:
        ModelError: the Hub refuses.
        TransientError: it is away.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    while True:
        try:
            return ask()
        except (HfHubHTTPError, httpx2.HTTPError, httpx2.InvalidURL, OfflineModeIsEnabled) as error:
            # `from None`: the library's texts hold addresses, and those of the content network are signed
            trouble = passing(error)
            if trouble is None:
                raise refusal(error, patience.what) from None
            patience.bear(trouble)


def passing(error: Exception) -> Trouble | None:
    """What waiting may mend; nothing for a refusal."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        code = error.response.status_code
        may_pass = code in {408, 425, 429} or code >= 500
        return Trouble(f"{_host()} answered {code}", _asked_to_wait(error)) if may_pass else None
    if isinstance(error, httpx2.UnsupportedProtocol):
        return None
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Trouble(f"{_host()} can't be reached")
    if isinstance(error, httpx2.TimeoutException):
        return Trouble(f"{_host()} did not answer in time")
    return Trouble("the connection broke") if isinstance(error, httpx2.TransportError) else None


def refusal(error: Exception, what: str) -> ModelError:
    """What the Hub will say again however long one waits, with what to do about it."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    text, fix = f"can't be downloaded: {type(error).__name__}", "check HF_ENDPOINT and the proxy settings"
    if isinstance(error, OfflineModeIsEnabled):
        text, fix = "is not here, and HF_HUB_OFFLINE forbids to download it", "unset HF_HUB_OFFLINE for the download"
    elif isinstance(error, GatedRepoError):
        text = "is gated: its files are for those who accepted its licence"
        fix = "accept it on the model's page, and set HF_TOKEN to a token of that account"
    elif isinstance(error, RepositoryNotFoundError):
        text, fix = "the Hub has no such model for you", "check the name; for a private model set HF_TOKEN"
    elif isinstance(error, RevisionNotFoundError):
        text, fix = "has no such revision", "give a commit, tag or branch of it, or none for the main branch"
    elif isinstance(error, RemoteEntryNotFoundError):
        text, fix = "is announced, and yet not there", "try another revision of the model"
    elif isinstance(error, HfHubHTTPError) and error.response.status_code in {401, 403}:
        text = f"{_host()} refuses access ({error.response.status_code})"
        fix = "set HF_TOKEN to a valid token that may read it, or unset it for a public model"
    elif isinstance(error, HfHubHTTPError):
        text, fix = f"{_host()} answered {error.response.status_code}", "check HF_ENDPOINT and the model's name"
    return ModelError([Problem(what, text, fix)])


def _asked_to_wait(error: "HfHubHTTPError") -> float:
    value = error.response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _host() -> str:
    from huggingface_hub import constants

    place = urlsplit(constants.ENDPOINT)
    return f"{place.hostname}:{place.port}" if place.port else str(place.hostname)


def _git_sha1(file: Path) -> str:
    import hashlib

    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
