"""An exported folder to the Hub: one commit, or none where everything is there already.

The endpoint and the token are the field's own settings: HF_ENDPOINT and HF_TOKEN. Error texts are written here: those
of the library hold addresses, and the ones that uploads go to are signed, and so a secret.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shoes.errors import ConfigurationError, Problem, ShoesError, TransientError
from shoes.model.hub import passing
from shoes.publishing.place import visible_files
from shoes.publishing.reports import PushReport

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)
OURS = ("peft/", "kohya/", "images/", "merged/")
"""Folders of a repository that hold nothing but exports: what an earlier one left there is removed."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TOKEN_FIX = "set HF_TOKEN to a token with write access, from the Hub's settings page, or run `hf auth login`"


def push_problems(repository: str) -> list[Problem]:
    """Why a folder can't be pushed, as far as it can be told without asking the Hub."""
    from huggingface_hub import constants, get_token

    problems = []
    if (what := _wrong_name(repository)) is not None:
        fix = "write OWNER/NAME: your name or that of an organisation, and letters, digits, '-', '_' and '.'"
        problems.append(Problem(f"--push {repository}", what, fix))
    if constants.HF_HUB_OFFLINE:
        problems.append(Problem("HF_HUB_OFFLINE", "forbids to push", "unset it for this command"))
    if not get_token():
        problems.append(Problem("HF_TOKEN", "is not set, and nobody is logged in to the Hub", _TOKEN_FIX))
    return problems


def require_account(repository: str) -> str:
    """The Hub takes the token; its owner's name is returned.

    Raises:
        ConfigurationError: it does not.
        TransientError: the Hub can't be reached.
    """
    from huggingface_hub import HfApi

    with _clear_errors(repository, "Nothing was exported yet"):
        found = HfApi().whoami()
        name, token = str(found["name"]), found.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read":
        raise ConfigurationError([Problem("HF_TOKEN", "may only read", _TOKEN_FIX)])
    return name


def push(folder: Path, repository: str, *, is_private: bool, message: str) -> PushReport:
    """Make a model repository of an exported folder, or bring one up to date.

    Files there that no export makes are left alone. The visibility of a repository that is there is not changed.

    Raises:
        ConfigurationError: the Hub refuses the token, the name or the card.
        TransientError: the Hub could not be reached; the same command tries again.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _clear_errors(repository, f"The export in {folder} is whole"):
        api.create_repo(repository, private=is_private, exist_ok=True)
        before = api.model_info(repository)
        url, commit = _commit(api, folder, repository, message)
    notes = (
        [] if bool(before.private) == is_private else [_visibility_note(repository, is_private=bool(before.private))]
    )
    return PushReport(
        repository=repository,
        url=url,
        commit=commit,
        is_changed=commit != before.sha,
        is_private=bool(before.private),
        notes=tuple(notes),
    )


def _commit(api: "HfApi", folder: Path, repository: str, message: str) -> tuple[str, str]:
    """Commit the folder's files; what is equal there is left out by the client, and an empty commit is not made."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    files = visible_files(folder)
    left = [path for path in api.list_repo_files(repository) if path.startswith(OURS) and path not in files]
    operations: list[Any] = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=folder / path) for path in files]
    operations += [CommitOperationDelete(path_in_repo=path) for path in left]
    log.info("pushing %d files to %s", len(files), repository)
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice of the Hub about the card
            done = api.create_commit(repository, operations, commit_message=message)
    finally:
        enable_progress_bars()
    return f"{api.endpoint}/{repository}", str(done.oid)


def _visibility_note(repository: str, *, is_private: bool) -> str:
    found = "private" if is_private else "public"
    return f"{repository} was there before and is {found}; that is changed on the Hub, in its settings"


def _wrong_name(repository: str) -> str | None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if not _NAME.fullmatch(repository):
        return "is no name of a repository"
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        return f"is no name of a repository: {str(error).partition(':')[0]}"
    return None


@contextmanager
def _clear_errors(repository: str, state: str) -> Iterator[None]:
    """Errors of the client in our words; `state` says what is there all the same."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except ShoesError:
        raise
    except (HfHubHTTPError, httpx2.HTTPError, httpx2.InvalidURL, OfflineModeIsEnabled, RuntimeError, OSError) as error:
        # `from None`: the library's texts hold addresses
        raise _in_our_words(_first_cause(error), repository, state) from None
    except (JSONDecodeError, KeyError, TypeError):
        hint = "a log-in page of the network, or a wrong HF_ENDPOINT?"
        raise TransientError(f"{repository}: what answers at {_host()} is not the Hub ({hint}). {state}.") from None
    except ValueError as error:  # the client's word for a card that the Hub does not take
        raise ConfigurationError(
            [Problem(repository, f"the Hub refuses the export: {error}", "please report this as a bug")]
        ) from None


def _first_cause(error: BaseException) -> BaseException:
    """What the client's upload threads wrap in an error of their own."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _in_our_words(error: BaseException, repository: str, state: str) -> ShoesError:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    trouble = passing(error) if isinstance(error, Exception) else None
    if trouble is not None:
        return TransientError(
            f"{repository} could not be pushed: {trouble.text}. {state}: the same command tries again."
        )
    code = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if code == 401 and not isinstance(error, RepositoryNotFoundError):
        return ConfigurationError([Problem("HF_TOKEN", f"{_host()} does not know this token (401)", _TOKEN_FIX)])
    if code in {401, 403, 404}:
        text = f"{_host()} does not let this token write there ({code})"
        fix = "set HF_TOKEN to a token that may write to this owner's repositories, or push to another name"
        return ConfigurationError([Problem(f"--push {repository}", text, fix)])
    told = f"{_host()} answered {code}" if code else type(error).__name__
    return ConfigurationError([Problem(repository, f"could not be pushed: {told}", "check HF_ENDPOINT and the name")])


def _host() -> str:
    from huggingface_hub import constants

    place = urlsplit(constants.ENDPOINT)
    return f"{place.hostname}:{place.port}" if place.port else str(place.hostname)
