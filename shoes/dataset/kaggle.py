"""Fetch a data set from Kaggle, with kagglehub."""

import os
from pathlib import Path

from shoes.dataset.addresses import KaggleAddress
from shoes.errors import DataError, Problem, TransientError

_CREDENTIALS = (
    "make a token at https://www.kaggle.com/settings (API, Create New Token) and put it into KAGGLE_API_TOKEN "
    "or ~/.kaggle/; if the data set asks for it, accept its terms on its page"
)
_TRY_AGAIN = (408, 429)


def download(address: KaggleAddress, downloads: Path) -> tuple[Path, str]:
    """The folder of a data set from Kaggle, fetched when it is not here yet, and which version it is.

    Raises:
        DataError: there is no such data set, or it is not for us.
        TransientError: Kaggle does not answer.
    """
    os.environ.setdefault("KAGGLEHUB_CACHE", str(downloads / "kaggle"))
    import kagglehub
    import requests
    from kagglehub import exceptions

    where = f"kaggle:{address.handle}"
    try:
        folder = Path(kagglehub.dataset_download(address.handle))
    except requests.HTTPError as error:
        raise _refusal(where, error.response.status_code if error.response is not None else None) from error
    except (exceptions.UnauthenticatedError, exceptions.CredentialError) as error:
        raise DataError([Problem(where, "Kaggle wants to know who you are", _CREDENTIALS)]) from error
    except (exceptions.BackendError, exceptions.NotFoundError) as error:
        raise DataError([Problem(where, f"Kaggle says: {error}", "check the id on kaggle.com")]) from error
    except (requests.RequestException, exceptions.DataCorruptionError) as error:
        raise TransientError(_no_answer(where)) from error
    return folder, f"version {folder.name}" if folder.name.isdecimal() else "unknown version"


def _refusal(where: str, status: int | None) -> DataError | TransientError:
    if status is None or status >= 500 or status in _TRY_AGAIN:
        return TransientError(_no_answer(where))
    if status in (401, 403):
        return DataError([Problem(where, "Kaggle lets only known people take it", _CREDENTIALS)])
    if status == 404:
        fix = "check the id on kaggle.com; for a private data set also: " + _CREDENTIALS
        return DataError([Problem(where, "Kaggle knows no such data set", fix)])
    return DataError([Problem(where, f"Kaggle refuses it (HTTP {status})", "check the id on kaggle.com")])


def _no_answer(where: str) -> str:
    return (
        f"{where} can't be fetched: Kaggle does not answer. Look at the network and try again, or download it "
        "by hand and name its folder."
    )
