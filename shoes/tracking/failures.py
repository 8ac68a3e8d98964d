"""What a tracking store raises, and what it means: it is away, it lets us not in, or it lacks something."""

import os

from shoes import local_network
from shoes.errors import TrackingRefused, TrackingUnavailable

UNAUTHENTICATED, FORBIDDEN = 401, 403
"""HTTP: nobody knows who asks; and that one may not."""


def failures() -> tuple[type[Exception], ...]:
    """What a store that is away, locked or full raises."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    return (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError)


def is_refused(error: BaseException | None) -> bool:
    """The store answered, and does not let us in."""
    return _refused_with(error) is not None


def _refused_with(error: BaseException | None) -> int | None:
    """HTTP 401 or 403, where one of them is somewhere behind the error."""
    import requests
    from mlflow.exceptions import MlflowException

    while error is not None:
        status = None
        if isinstance(error, requests.HTTPError) and error.response is not None:
            status = error.response.status_code
        elif isinstance(error, MlflowException):
            status = error.get_http_status_code()
        if status in (UNAUTHENTICATED, FORBIDDEN):
            return status
        error = error.__cause__ or error.__context__
    return None


def is_missing(error: BaseException | None) -> bool:
    """The store answered, and does not have what was asked for."""
    import requests
    from mlflow.exceptions import MlflowException

    while error is not None:
        if isinstance(error, requests.HTTPError) and error.response is not None and error.response.status_code == 404:
            return True
        if isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return True
        error = error.__cause__ or error.__context__
    return False


def refusal(tracking_uri: str, error: BaseException) -> TrackingRefused:
    """What is told of it: what the server said, and what to do."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    if _refused_with(error) == UNAUTHENTICATED:
        said = f"the password of {user}" if user else "to answer somebody without a name"
        fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, in .env say"
    else:
        said = " ".join(str(error).split())[:300]
        fix = (
            f"let its admin give {user or 'you'} the permission EDIT, or, if it is the Host header that is wrong, add "
            "the server's name to its --allowed-hosts"
        )
    return TrackingRefused(f"MLflow at {tracking_uri} refuses {said}: {fix}")


def unavailable(tracking_uri: str, error: BaseException) -> TrackingUnavailable:
    """What is told of a store that does not answer: what its client said, and what macOS may have to do with it."""
    said = str(error).partition("\n")[0]
    advice = local_network.advice(error)
    return TrackingUnavailable(f"MLflow at {tracking_uri} does not answer: {said}" + (f" ({advice})" if advice else ""))


def is_away(error: BaseException | None) -> bool:
    """The store did not answer: somewhere behind the error is a broken connection, a lock or a full disk."""
    import requests
    import sqlalchemy.exc

    outages = (requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError)
    while error is not None:
        if isinstance(error, outages):
            return True
        error = error.__cause__ or error.__context__
    return False
